import type { Counter, Registry } from "#telemetry/metrics.ts";

/** What the controller counts besides its work queues. */
export interface ControllerMetrics {
  readonly statusWrites: Counter<{}>;
  readonly labelPatches: Counter<{}>;
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
  };
}
