import { isDeepStrictEqual } from "node:util";

import type { NodeReportStatus } from "#api/v1/node-report.ts";
import { isAbort } from "#async/abort.ts";
import { fullJitter } from "#async/backoff.ts";
import type { Clock } from "#async/clock.ts";
import { TokenBucket } from "#async/token-bucket.ts";
import { ApiError } from "#kube/errors.ts";
import type { Change } from "#kube/object-cache.ts";
import type { KubeObject } from "#kube/types.ts";
import type { Log } from "#telemetry/log.ts";
import type { Feed } from "./feed.ts";
import type { ReportWrites } from "./metrics.ts";
import type { ReportStore } from "./report-store.ts";
import { Wake } from "./wake.ts";

/** A few images that are done within seconds are told at once each; a hundred of them together. */
const urgentRate = { capacity: 3, refillMs: 2_000 };

/** How long news that can wait waits for company, and so how far apart such writes are. */
const gatherMs = 2_000;

/** A report is written as a whole, and sent to who watches it: a larger one is written less often. */
const gatherMsPerImage = 20;

/** However large a report is, it has to be right within 15 s. */
const maxGatherMs = 8_000;

/** A report has to be right 15 s after the API server is back. */
const unreachableBackoff = { minMs: 1_000, maxMs: 8_000 };

/** Rights that are missing for a moment after a start, or for good: do not press a server for these. */
const refusedBackoff = { minMs: 1_000, maxMs: 120_000 };

/** What the NodeReport should say, and the Node that should own it. */
export interface DesiredReport {
  readonly nodeUid: string;
  readonly status: NodeReportStatus;
}

export interface ReportWriterOptions {
  nodeName: string;
  store: ReportStore;
  /** Tells that the stored report has changed. It has the one with the node's name, and perhaps others. */
  feed: Feed<KubeObject>;
  /** Tells the newest truth; `undefined` while there is none. */
  desired: () => DesiredReport | undefined;
  clock: Clock;
  random: () => number;
  log: Log;
  writes: ReportWrites;
}

/** What is known of the stored report. */
interface Stored {
  readonly uid: string | undefined;
  readonly version: string | undefined;
  readonly nodeUid: string | undefined;
  /** `undefined` if there is none, or if somebody else may have changed it. */
  readonly status: NodeReportStatus | undefined;
}

/**
 * Keeps the NodeReport equal to the newest truth, with as few writes as may be: none if it is equal
 * already, at most one every two seconds for long, or up to eight if it is large, but the first few
 * at once if they are urgent. News that can wait is bounded by itself: however much there is of it,
 * what is urgent does not wait for it.
 *
 * It hears of the report by a watch of its metadata, too: what somebody else changed or deleted is
 * written again. Its own writes come back that way, sometimes before they are answered, and are told
 * by the version of the object: what is not newer than the answer says nothing, unless it is older
 * than what was heard before. Then the server itself went back, to a backup.
 */
export class ReportWriter {
  readonly #options: ReportWriterOptions;
  readonly #urgentTurns: TokenBucket;
  readonly #news: Wake;
  readonly #urgentNews: Wake;
  #stored: Stored | undefined;
  #isWritten = false;
  /** What was heard while a write is on its way: its answer tells what of it was the write. */
  #heard: Change<KubeObject>[] | undefined;

  constructor(options: ReportWriterOptions) {
    const { clock } = options;
    this.#options = options;
    this.#urgentTurns = new TokenBucket({ ...urgentRate, clock });
    this.#news = new Wake(clock);
    this.#urgentNews = new Wake(clock);
  }

  /** Whether the stored report was right once since the start. */
  get isWritten(): boolean {
    return this.#isWritten;
  }

  /**
   * Reads what an earlier process reported, trying until the API server tells; `undefined` if there is
   * no report.
   */
  async restore({ signal }: { signal: AbortSignal }): Promise<NodeReportStatus | undefined> {
    const report = await this.#untilDone(() => this.#options.store.read({ signal }), signal);
    this.#stored = report && storedOf(report, report.status);
    return report?.status;
  }

  /** Asks for a look at whether the report is still right: at once, or within eight seconds. */
  request({ isUrgent }: { isUrgent: boolean }): void {
    this.#news.notify();
    if (isUrgent) this.#urgentNews.notify();
  }

  /** Writes until aborted. No fault of the API server ends it. */
  async run(signal: AbortSignal): Promise<void> {
    using _ = this.#options.feed.onChange((change) => this.#hear(change)); // What there is, too.
    try {
      for (;;) {
        await this.#news.wait({ signal });
        const isUrgent = await this.#urgentNews.wait({ signal, timeoutMs: this.#gatherMs() });
        if (this.#isRight()) continue;
        if (isUrgent) await this.#urgentTurns.take({ signal });
        await this.#untilDone(() => this.#write({ signal }), signal);
        if (isUrgent) await this.#takeTurnsForSize(signal);
      }
    } catch (error) {
      if (!isAbort(error, signal)) throw error;
    }
  }

  /** Writes what is not written yet, trying once, as the last act of the agent. */
  async flush({ signal }: { signal: AbortSignal }): Promise<void> {
    if (this.#isRight()) return;
    try {
      await this.#write({ signal });
    } catch (error) {
      this.#options.log.warn("last NodeReport not written", { error });
    }
  }

  #gatherMs(): number {
    const { status } = this.#options.desired() ?? {};
    const sizeMs = (status?.images.length ?? 0) * gatherMsPerImage;
    return Math.min(Math.max(gatherMs, sizeMs), maxGatherMs);
  }

  /** Takes a turn more for each time that the report is larger than what one turn is for. */
  async #takeTurnsForSize(signal: AbortSignal): Promise<void> {
    for (let ms = this.#gatherMs() - gatherMs; ms > 0; ms -= urgentRate.refillMs) {
      await this.#urgentTurns.take({ signal });
    }
  }

  #isRight(): boolean {
    const desired = this.#options.desired();
    if (!desired) return true;
    const { nodeUid, status } = this.#stored ?? {};
    const isRight = isDeepStrictEqual({ nodeUid, status }, desired);
    this.#isWritten ||= isRight;
    return isRight;
  }

  async #write({ signal }: { signal: AbortSignal }): Promise<void> {
    const { desired, writes } = this.#options;
    // Asked anew for each attempt: only the newest is worth writing.
    const report = desired();
    if (!report || this.#isRight()) return;
    this.#heard = [];
    try {
      await this.#put(report, { signal });
      writes.inc({ result: "ok" });
    } catch (error) {
      if (!signal.aborted) writes.inc({ result: "error" });
      throw error;
    } finally {
      const heard = this.#heard;
      this.#heard = undefined;
      for (const change of heard) this.#hear(change);
    }
    this.#isWritten = true;
  }

  /**
   * Makes the stored report right. What belongs to another Node gets its status first, and its owner
   * then: nobody heeds it before, and a new Node is never said to have what the old one had.
   */
  async #put({ nodeUid, status }: DesiredReport, options: { signal: AbortSignal }): Promise<void> {
    const { store } = this.#options;
    // The status is known as it was sent: a server that leaves something out of it would be written to
    // for ever.
    if (this.#stored) this.#know(await store.writeStatus(status, options), status);
    if (this.#stored?.nodeUid !== nodeUid) {
      // It may be made anew by that, and be empty, or have been changed before it.
      this.#know(await store.ensure(nodeUid, options), undefined);
    }
    if (!this.#stored?.status) this.#know(await store.writeStatus(status, options), status);
    if (!this.#stored) throw new Error("The NodeReport was deleted as soon as it was made");
  }

  /** Takes over what an answer says. */
  #know(report: KubeObject | undefined, status: NodeReportStatus | undefined): void {
    this.#stored = report && storedOf(report, status);
  }

  #hear(change: Change<KubeObject>): void {
    const { type, key, object } = change;
    if (key !== this.#options.nodeName) return;
    if (this.#heard) {
      this.#heard.push(change);
      return;
    }
    const heard = storedOf(object, undefined);
    if (type === "deleted") {
      if (heard.uid !== this.#stored?.uid) return; // One that was made anew since.
      this.#stored = undefined;
    } else {
      const hasGoneBack =
        type === "updated" && !isNewer(heard.version, change.previous.metadata.resourceVersion);
      if (!hasGoneBack && !isNewer(heard.version, this.#stored?.version)) return;
      this.#stored = heard;
    }
    this.request({ isUrgent: false });
  }

  async #untilDone<T>(attempt: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const { clock, random, log } = this.#options;
    let failures = 0;
    let wasWaiting = true;
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        signal.throwIfAborted();
        const isWaiting = isWorthWaitingFor(error);
        failures = isWaiting === wasWaiting ? failures + 1 : 1;
        wasWaiting = isWaiting;
        const backoff = isWaiting ? unreachableBackoff : refusedBackoff;
        log.warn("NodeReport not up to date, trying again", { error, attempt: failures });
        const askedMs = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
        const waitMs = fullJitter(failures, { ...backoff, random });
        await clock.sleep(Math.max(waitMs, Math.min(askedMs, backoff.maxMs)), { signal });
      }
    }
  }
}

/** Whether the API server, rather than the request, is at fault. */
function isWorthWaitingFor(error: unknown): boolean {
  // etcd's bound comes as an error of the server's own.
  if (error instanceof ApiError && /too large/i.test(error.message)) return false;
  return error instanceof Error && "retryable" in error && error.retryable === true;
}

function storedOf({ metadata }: KubeObject, status: NodeReportStatus | undefined): Stored {
  const { uid, resourceVersion, ownerReferences: [owner] = [] } = metadata;
  return { uid, version: resourceVersion, nodeUid: owner?.uid, status };
}

/**
 * Whether a version of an object is newer than another. Versions are decimal numbers that grow
 * (KEP-5504); of any others nobody can tell, and the later to arrive passes for newer.
 */
function isNewer(version: string | undefined, than: string | undefined): boolean {
  if (version === undefined || than === undefined) return version !== undefined;
  if (!/^\d+$/.test(version) || !/^\d+$/.test(than)) return version !== than;
  return BigInt(version) > BigInt(than);
}
