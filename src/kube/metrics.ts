import type { Counter, Histogram, Gauge, Registry } from "#telemetry/metrics.ts";

export const verbs = ["get", "list", "watch", "create", "update", "patch", "delete"] as const;

/** What a request does, in the API server's own words. */
export type Verb = (typeof verbs)[number];

const requestResults = ["ok", "refused", "unreachable"] as const;

export type RequestCounter = Counter<{
  verb: typeof verbs;
  result: typeof requestResults;
}>;

/** Counts requests to the API server. A watch counts once, when it is answered. */
export function requestCounter(metrics: Registry): RequestCounter {
  return metrics.counter({
    name: "coral_kube_requests_total",
    help: "Requests to the Kubernetes API server. A list has a count for each of its pages.",
    labels: { verb: verbs, result: requestResults },
  });
}

const reconcileResults = ["settled", "requeued", "failed", "terminal"] as const;

export interface WorkQueueMetrics {
  readonly reconciles: Counter<{ controller: readonly string[]; result: typeof reconcileResults }>;
  readonly seconds: Histogram<{ controller: readonly string[] }>;
  readonly depth: Gauge<{ controller: readonly string[] }>;
}

/** Declares what a work queue tells of itself. */
export function workQueueMetrics(metrics: Registry, name: string): WorkQueueMetrics {
  const controller: readonly string[] = [name];
  return {
    reconciles: metrics.counter({
      name: "coral_reconcile_total",
      help: "Keys reconciled.",
      labels: { controller, result: reconcileResults },
    }),
    seconds: metrics.histogram({
      name: "coral_reconcile_duration_seconds",
      help: "How long one key took to reconcile.",
      labels: { controller },
      buckets: [0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600],
    }),
    depth: metrics.gauge({
      name: "coral_workqueue_depth",
      help: "Keys that wait to be reconciled.",
      labels: { controller },
    }),
  };
}
