import type { CopyEvent } from "#mirror/copy-result.ts";
import type { Counter, Gauge, Histogram, Registry } from "#telemetry/metrics.ts";

/** How runs end: to their end, whatever became of tags; stopped; too late; without being able to say. */
export const runResults = ["done", "aborted", "conflict", "error"] as const;

export type RunResult = (typeof runResults)[number];

const tagOutcomes = ["copied", "unchanged", "failed", "throttled"] as const;

/** What a mirror worker counts. */
export interface MirrorMetrics {
  readonly runs: Counter<{ result: typeof runResults }>;
  readonly runSeconds: Histogram<{}>;
  readonly running: Gauge<{}>;
  readonly held: Gauge<{}>;
  readonly queueDepth: Gauge<{}>;
  readonly members: Gauge<{}>;
  readonly tags: Counter<{ outcome: typeof tagOutcomes }>;
  readonly bytes: Counter<{}>;
}

/** From a pass over what did not change to the first copy of a large repository. */
const runBuckets = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3_600, 14_400];

/** Declares the metrics of a mirror worker. */
export function mirrorMetrics(registry: Registry): MirrorMetrics {
  return {
    runs: registry.counter({
      name: "coral_mirror_runs_total",
      help: "Passes over one repository of a Mirror, by how they ended.",
      labels: { result: runResults },
    }),
    runSeconds: registry.histogram({
      name: "coral_mirror_run_duration_seconds",
      help: "How long passes over one repository took that came to their end.",
      buckets: runBuckets,
    }),
    running: registry.gauge({
      name: "coral_mirror_runs_in_flight",
      help: "Passes that are under way.",
    }),
    held: registry.gauge({
      name: "coral_mirror_runs_held",
      help: "Passes under way that only wait until a registry wants to be asked again.",
    }),
    queueDepth: registry.gauge({
      name: "coral_mirror_queue_depth",
      help: "Repositories that are due and wait for their turn.",
    }),
    members: registry.gauge({
      name: "coral_mirror_workers",
      help: "Mirror workers that live, as this one sees it.",
    }),
    tags: registry.counter({
      name: "coral_mirror_tags_total",
      help: "Tags that were looked at, by what became of them.",
      labels: { outcome: tagOutcomes },
    }),
    bytes: registry.counter({
      name: "coral_mirror_copied_bytes_total",
      help: "Bytes of blobs that were sent to destinations.",
    }),
  };
}

/** Counts what happens to tags and blobs. */
export function countCopy(
  { tags, bytes }: Pick<MirrorMetrics, "tags" | "bytes">,
  event: CopyEvent,
): void {
  if (event.kind === "blobDone" && event.how === "copied") bytes.inc({}, event.sizeBytes);
  if (event.kind !== "tagDone" || event.result.outcome === "planned") return;
  tags.inc({ outcome: event.result.outcome });
}
