import type { Counter, Gauge, Histogram, Registry } from "#telemetry/metrics.ts";
import { failureReasons, waitReasons, type FailureReason, type WaitReason } from "./failure.ts";

/** What the agent counts. */
export interface AgentMetrics {
  readonly pullSeconds: Histogram<{ result: readonly ["ok", "error", "cancelled"] }>;
  readonly pullFailures: Counter<{ reason: readonly FailureReason[] }>;
  readonly pullsInFlight: Gauge<{}>;
  readonly queueDepth: Gauge<{}>;
  readonly pullsInBackoff: Gauge<{}>;
  readonly pulledBytes: Counter<{}>;
  readonly pullsPostponed: Counter<{ reason: readonly WaitReason[] }>;
  readonly reportWrites: ReportWrites;
  readonly reconnects: Counter<{}>;
}

export type ReportWrites = Counter<{ result: readonly ["ok", "error"] }>;

/** From an image that is nearly there to one that takes as long as a pull may. */
const pullBuckets = [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800];

/** Declares the agent's metrics. */
export function agentMetrics(registry: Registry): AgentMetrics {
  return {
    pullSeconds: registry.histogram({
      name: "coral_image_pull_duration_seconds",
      help: "How long pulls of images onto this node took.",
      labels: { result: ["ok", "error", "cancelled"] },
      buckets: pullBuckets,
    }),
    pullFailures: registry.counter({
      name: "coral_image_pull_failures_total",
      help: "Pulls that failed, by the kind of failure.",
      labels: { reason: failureReasons },
    }),
    pullsInFlight: registry.gauge({
      name: "coral_image_pulls_in_flight",
      help: "Images that are being pulled now.",
    }),
    queueDepth: registry.gauge({
      name: "coral_image_pull_queue_depth",
      help: "Images that wait to be pulled, for a slot or for the end of a backoff.",
    }),
    pullsInBackoff: registry.gauge({
      name: "coral_image_pulls_in_backoff",
      help: "Images of the queue that are not due yet: after a failure, or until what they lack is there.",
    }),
    pulledBytes: registry.counter({
      name: "coral_image_pulled_bytes_total",
      help: "Sizes of the images that were pulled, as the runtime counts them.",
    }),
    pullsPostponed: registry.counter({
      name: "coral_image_pulls_postponed_total",
      help: "Pulls that did not begin because something was lacking, by what it was.",
      labels: { reason: waitReasons },
    }),
    reportWrites: registry.counter({
      name: "coral_node_report_writes_total",
      help: "Attempts to bring the NodeReport up to date.",
      labels: { result: ["ok", "error"] },
    }),
    reconnects: registry.counter({
      name: "coral_runtime_reconnects_total",
      help: "How often the container runtime was found again after it was lost.",
    }),
  };
}
