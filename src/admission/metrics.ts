import type { Histogram, Registry } from "#telemetry/metrics.ts";

/** What admission measures. */
export type AdmissionSeconds = Histogram<{
  webhook: readonly ["images"];
  result: readonly ["allowed", "refused"];
}>;

/** Declares the metrics of admission. */
export function admissionSeconds(registry: Registry): AdmissionSeconds {
  return registry.histogram({
    name: "coral_admission_duration_seconds",
    help: "How long webhooks took to decide.",
    labels: { webhook: ["images"], result: ["allowed", "refused"] },
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1],
  });
}
