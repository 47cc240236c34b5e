import type { Counter, Histogram, Registry } from "#telemetry/metrics.ts";

/** The webhooks, by what their paths end in. */
const webhooks = ["images", "mirrors", "imagepolicies", "pods", "pods-admit", "workloads"] as const;

/** A webhook of Coral's. */
export type WebhookName = (typeof webhooks)[number];

/** How long webhooks take, and what they answer. */
export type AdmissionSeconds = Histogram<{
  webhook: typeof webhooks;
  result: readonly ["allowed", "changed", "refused"];
}>;

const deciders = ["nobody", "annotation", "off", "opt-in", "force"] as const;

/** Who decided about a pod: its annotation, or a policy, by its mode. */
export type DecidedBy = (typeof deciders)[number];

/** What became of pods, and who decided about them. */
export type AdmittedPods = Counter<{
  result: readonly ["unchanged", "changed", "refused"];
  decided_by: typeof deciders;
}>;

/** Declares how long webhooks take. */
export function admissionSeconds(registry: Registry): AdmissionSeconds {
  return registry.histogram({
    name: "coral_admission_duration_seconds",
    help: "How long webhooks took to decide.",
    labels: { webhook: webhooks, result: ["allowed", "changed", "refused"] },
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1],
  });
}

/** Declares what became of pods. */
export function admittedPods(registry: Registry): AdmittedPods {
  return registry.counter({
    name: "coral_admission_pods_total",
    help: "What webhooks answered about pods, by what becomes of them and who decided. A pod may be asked about again.",
    labels: { result: ["unchanged", "changed", "refused"], decided_by: deciders },
  });
}
