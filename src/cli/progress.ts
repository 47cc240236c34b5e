import type { CopyEvent } from "#mirror/copy-result.ts";

/** What the rate is worked out from, in milliseconds: long enough to be calm, short enough to be true. */
const windowMs = 5_000;

/** A blob on its way. */
export interface BlobProgress {
  /** Of which tag: `ghcr.io/a/b:1`. */
  readonly label: string;
  readonly digest: string;
  readonly sentBytes: number;
  readonly sizeBytes: number;
  /** `undefined` as long as nothing can be said. */
  readonly bytesPerSecond: number | undefined;
}

/** What is to be seen of a pass at a moment. */
export interface ProgressView {
  readonly copied: number;
  readonly unchanged: number;
  readonly planned: number;
  readonly failed: number;
  readonly throttled: number;
  readonly running: number;
  readonly sentBytes: number;
  readonly bytesPerSecond: number;
  /** Those on their way the longest come first. */
  readonly blobs: readonly BlobProgress[];
  /** Registries that want to be left alone, and for how long. */
  readonly waits: readonly { readonly host: string; readonly leftMs: number }[];
}

interface Blob {
  readonly label: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly rate: Rate;
  sentBytes: number;
}

/** Adds up what happens while tags are copied. Pure but for what it remembers. */
export class Progress {
  readonly #counts = { copied: 0, unchanged: 0, planned: 0, failed: 0, throttled: 0 };
  readonly #blobs = new Map<string, Blob>();
  readonly #waits = new Map<string, number>();
  readonly #rate = new Rate();
  #running = 0;
  #sentBytes = 0;

  note(event: CopyEvent, nowMs: number): void {
    switch (event.kind) {
      case "tagStarted":
        this.#running++;
        break;
      case "blobProgress":
        this.#sent(event, nowMs);
        break;
      case "blobDone":
        if (event.how === "copied") {
          this.#sent({ ...event, sentBytes: event.sizeBytes }, nowMs);
          this.#blobs.delete(keyOf(event));
        }
        break;
      case "tagDone":
        this.#running--;
        this.#counts[event.result.outcome]++;
        this.#forget(labelOf(event.source, event.tag));
        break;
      default:
        event satisfies never;
    }
  }

  /** A registry wants to be left alone until then, or no more. */
  waitFor(host: string, untilMs: number | undefined): void {
    if (untilMs === undefined) this.#waits.delete(host);
    else this.#waits.set(host, untilMs);
  }

  view(nowMs: number): ProgressView {
    return {
      ...this.#counts,
      running: this.#running,
      sentBytes: this.#sentBytes,
      bytesPerSecond: this.#rate.at(nowMs) ?? 0,
      blobs: [...this.#blobs.values()].map(({ rate, ...blob }) => ({
        ...blob,
        bytesPerSecond: rate.at(nowMs),
      })),
      waits: [...this.#waits]
        .map(([host, untilMs]) => ({ host, leftMs: untilMs - nowMs }))
        .filter(({ leftMs }) => leftMs > 0),
    };
  }

  /** What of a tag is still on its way has failed with it, or goes on for another one. */
  #forget(label: string): void {
    for (const [key, blob] of this.#blobs) if (blob.label === label) this.#blobs.delete(key);
  }

  #sent(event: Extract<CopyEvent, { kind: "blobProgress" }> | BlobSent, nowMs: number): void {
    const { digest, sizeBytes, sentBytes } = event;
    const key = keyOf(event);
    const known = this.#blobs.get(key);
    const blob = known ?? {
      label: labelOf(event.source, event.tag),
      digest,
      sizeBytes,
      sentBytes: 0,
      rate: new Rate(),
    };
    const newBytes = Math.max(0, sentBytes - blob.sentBytes);
    blob.sentBytes = sentBytes;
    this.#blobs.set(key, blob);
    this.#sentBytes += newBytes;
    // An upload that is gone on with begins with what was there before, which says nothing of the speed.
    const timedBytes = known || sentBytes === sizeBytes ? newBytes : 0;
    blob.rate.add(timedBytes, nowMs);
    this.#rate.add(timedBytes, nowMs);
  }
}

type BlobSent = Omit<Extract<CopyEvent, { kind: "blobDone" }>, "kind"> & {
  readonly sentBytes: number;
};

function keyOf({ target, digest }: { target: string; digest: string }): string {
  return `${target} ${digest}`;
}

/** Names a tag, or a digest, of a repository: `ghcr.io/a/b:1`. */
export function labelOf(source: string, tag: string): string {
  return tag.includes(":") ? `${source}@${tag}` : `${source}:${tag}`;
}

/** Bytes per second over the last few seconds. */
class Rate {
  #samples: { readonly atMs: number; readonly bytes: number }[] = [];
  #sinceMs: number | undefined;

  add(bytes: number, nowMs: number): void {
    this.#sinceMs ??= nowMs;
    const last = this.#samples.at(-1);
    // Ten a second are enough, however often something comes.
    if (last && nowMs - last.atMs < 100) {
      this.#samples[this.#samples.length - 1] = { atMs: last.atMs, bytes: last.bytes + bytes };
    } else this.#samples.push({ atMs: nowMs, bytes });
  }

  /** `undefined` in the first moments. */
  at(nowMs: number): number | undefined {
    const sinceMs = this.#sinceMs;
    if (sinceMs === undefined || nowMs - sinceMs < 500) return undefined;
    this.#samples = this.#samples.filter(({ atMs }) => nowMs - atMs <= windowMs);
    const bytes = this.#samples.reduce((sum, sample) => sum + sample.bytes, 0);
    return (bytes * 1_000) / Math.min(windowMs, nowMs - sinceMs);
  }
}
