import type { Counter, Registry } from "#telemetry/metrics.ts";

/** What the controller counts besides its work queues. */
export interface ControllerMetrics {
  readonly statusWrites: Counter<{}>;
  readonly labelPatches: Counter<{}>;
  readonly lookups: Counter<{ result: readonly ["ok", "error"] }>;
}

/** Declares the controller's metrics. */
export function controllerMetrics(registry: Registry): ControllerMetrics {
  return {
    statusWrites: registry.counter({
      name: "coral_image_status_writes_total",
      help: "Writes of the status of an Image.",
    }),
    labelPatches: registry.counter({
      name: "coral_node_label_patches_total",
      help: "Patches of the image labels of a Node.",
    }),
    lookups: registry.counter({
      name: "coral_registry_lookups_total",
      help: "Questions to registries: what a reference names, and which tags there are.",
      labels: { result: ["ok", "error"] },
    }),
  };
}
