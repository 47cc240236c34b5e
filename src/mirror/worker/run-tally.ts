import { maxSamples } from "#api/v1/mirror.ts";
import type { CopyEvent, TagResult } from "#mirror/copy-result.ts";
import { failureOf, type Failure } from "./failure.ts";

/** What became of a repository's tags so far. */
export interface RunCounts {
  /** Tags and digests that are selected; `undefined` if that is not known. */
  readonly tags: number | undefined;
  readonly synced: number;
  readonly failed: number;
  readonly throttled: number;
  /** Of blobs that were sent. */
  readonly bytesCopied: number;
  readonly digestsDiffer: boolean;
  /** Some of those that failed, by tag. */
  readonly failures: readonly TagFailure[];
  /** Until when a registry wants to be left alone, in milliseconds since 1970. */
  readonly throttledUntilMs: number | undefined;
}

export interface TagFailure extends Failure {
  /** Tag or digest. */
  readonly tag: string;
}

/** Adds up what happens in a run. */
export class RunTally {
  #counts: RunCounts = {
    tags: undefined,
    synced: 0,
    failed: 0,
    throttled: 0,
    bytesCopied: 0,
    digestsDiffer: false,
    failures: [],
    throttledUntilMs: undefined,
  };

  /** Another object whenever something has changed. */
  get counts(): RunCounts {
    return this.#counts;
  }

  /** Notes which tags and digests there are. */
  select(references: readonly string[]): void {
    this.#add({ tags: references.length });
  }

  /** @param nowMs - in milliseconds since 1970. */
  note(event: CopyEvent, nowMs: number): void {
    const { bytesCopied } = this.#counts;
    if (event.kind === "blobDone" && event.how === "copied") {
      this.#add({ bytesCopied: bytesCopied + event.sizeBytes });
    } else if (event.kind === "tagDone") {
      this.#noteResult(event.result, nowMs);
    }
  }

  /** Notes until when a registry wants to be left alone, in milliseconds since 1970. */
  hold(untilMs: number): void {
    const { throttledUntilMs = 0 } = this.#counts;
    if (untilMs > throttledUntilMs) this.#add({ throttledUntilMs: untilMs });
  }

  #noteResult(result: TagResult, nowMs: number): void {
    const { synced, failed, throttled, failures, digestsDiffer } = this.#counts;
    switch (result.outcome) {
      case "copied":
      case "unchanged":
        return this.#add({
          synced: synced + 1,
          digestsDiffer: digestsDiffer || result.digestDiffers,
        });
      case "throttled":
        if (result.retryAfterMs !== undefined) this.hold(nowMs + result.retryAfterMs);
        return this.#add({ throttled: throttled + 1 });
      case "failed": {
        const failure = { tag: result.tag, ...failureOf(result) };
        const all = [...failures, failure].sort((a, b) => (a.tag < b.tag ? -1 : 1));
        return this.#add({ failed: failed + 1, failures: all.slice(0, maxSamples) });
      }
      case "planned": // Of dry runs.
        return undefined;
      default:
        return result satisfies never;
    }
  }

  #add(changed: Partial<RunCounts>): void {
    this.#counts = { ...this.#counts, ...changed };
  }
}
