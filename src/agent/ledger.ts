import { isDeepStrictEqual } from "node:util";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { NodeReportStatus, ReportedImage } from "#api/v1/node-report.ts";
import type { Log } from "#telemetry/log.ts";
import type { PullRequest } from "./fair-share.ts";
import type { Inventory } from "./inventory.ts";
import type { Feed } from "./feed.ts";
import { owedBy, type Owed, type OwedImage } from "./owed.ts";
import { restored } from "./restored-image.ts";
import {
  calmAtMs,
  found,
  longestWaitMs,
  missing,
  newlyOwed,
  renewed,
  timely,
  type RetryPolicy,
  type TrackedImage,
} from "./tracked-image.ts";

/** What an earlier process reported, by reference. */
type Earlier = ReadonlyMap<string, { reported: ReportedImage; isSamePlan: boolean }>;

export interface LedgerOptions {
  policy: RetryPolicy;
  log: Log;
  /** Hears of each change. @param isUrgent - whether it is one that people wait for. */
  onChange: (change: { isUrgent: boolean }) => void;
}

/** Keeps what the node owes, and how each image of it is doing. */
export class Ledger {
  readonly #options: LedgerOptions;
  readonly #tracked = new Map<string, TrackedImage>();
  #owed: Owed = { images: new Map(), observedPlan: "", problems: [] };
  #labels: Readonly<Record<string, string>> = {};
  #problems: ReadonlySet<string> = new Set();
  /** What an earlier process reported, until this one has worked out for itself what it owes. */
  #earlier: NodeReportStatus | undefined;

  constructor(options: LedgerOptions) {
    this.#options = options;
  }

  /** Takes over what an earlier process reported, before anything is owed. */
  restore(earlier: NodeReportStatus | undefined): void {
    this.#earlier = earlier;
  }

  /** Stands for what is owed now. */
  get observedPlan(): string {
    return this.#owed.observedPlan;
  }

  /** How everything that is owed is doing. */
  images(): Iterable<TrackedImage> {
    return this.#tracked.values();
  }

  get(reference: string): TrackedImage | undefined {
    return this.#tracked.get(reference);
  }

  /** What is asked for under a reference, if anything is. */
  owed(reference: string): OwedImage | undefined {
    return this.#owed.images.get(reference);
  }

  /** Works out what the node owes, if a plan or a label has changed. */
  owe(
    plans: Pick<Feed<ImagePlan>, "list">,
    labels: Readonly<Record<string, string>>,
    { arePlansNew, now }: { arePlansNew: boolean; now: Date },
  ): void {
    if (!arePlansNew && isDeepStrictEqual(labels, this.#labels)) return;
    this.#labels = labels;
    const before = this.#owed;
    this.#owed = owedBy(plans.list(), labels);
    this.#tellProblems(this.#owed.problems);

    for (const reference of this.#tracked.keys()) {
      if (!this.#owed.images.has(reference)) this.#tracked.delete(reference);
    }
    const earlier = this.#takeEarlier();
    for (const owed of this.#owed.images.values()) {
      const { reference, version } = owed;
      const image = this.#tracked.get(reference);
      if (!image) this.#tracked.set(reference, this.#begin(owed, earlier, now));
      else if (before.images.get(reference)?.version !== version) {
        this.#tracked.set(reference, renewed(image, now));
      }
    }
  }

  /** Compares all that is owed with what the runtime has. */
  compare(inventory: Pick<Inventory, "find">, now: Date): void {
    const { policy } = this.#options;
    for (const expected of this.#owed.images.values()) {
      const tracked = this.#tracked.get(expected.reference);
      const held = inventory.find(expected.reference);
      if (!tracked) continue;
      const image = timely(tracked, now, policy);
      this.set(held ? found(image, held, { expected, now, policy }) : missing(image, now, policy));
    }
  }

  /**
   * Remembers how an image is doing now. That it is there is urgent news. Failures are not: many bad
   * names of one Image would use up the turns that the news of others' images needs.
   */
  set(image: TrackedImage): void {
    const { log, onChange } = this.#options;
    const before = this.#tracked.get(image.reference);
    if (image === before) return;
    this.#tracked.set(image.reference, image);
    onChange({ isUrgent: image.state === "available" && before?.state !== "available" });
    if (before?.state === "available" && image.removals > before.removals) {
      log.info("image was removed from the node", { image: image.reference });
    }
  }

  /** Everything that is to be pulled, sooner or later. */
  requests(): PullRequest[] {
    const requests: PullRequest[] = [];
    for (const image of this.#tracked.values()) {
      const { reference, state, attempts, dueMs, outdated } = image;
      const owed = this.#owed.images.get(reference);
      if (!owed || (state === "available" && !outdated)) continue;
      const { host, namespaces, priority } = owed;
      const isRetry = attempts > 0 || (outdated?.pulls ?? 0) > 0; // What merely waited is none.
      requests.push({ reference, host, namespaces, priority, isRetry, dueMs });
    }
    return requests;
  }

  /**
   * In how many milliseconds to look again: when something looks different by the passage of time
   * alone, and while anything waits, soon enough to notice that the clock was set back.
   */
  untilCalmMs(now: Date): number | undefined {
    const { policy } = this.#options;
    const nowMs = now.getTime();
    const atMs = this.#tracked.values().reduce((soonest, image) => {
      const waitsMs = image.dueMs > nowMs ? nowMs + longestWaitMs : Infinity;
      return Math.min(soonest, calmAtMs(image, policy), waitsMs);
    }, Infinity);
    if (atMs === Infinity) return undefined;
    return Math.min(longestWaitMs, Math.max(0, atMs - nowMs));
  }

  #takeEarlier(): Earlier {
    const { images = [], observedPlan } = this.#earlier ?? {};
    this.#earlier = undefined;
    const isSamePlan = observedPlan === this.#owed.observedPlan;
    return new Map(images.map((reported) => [reported.reference, { reported, isSamePlan }]));
  }

  #begin(expected: OwedImage, earlier: Earlier, now: Date): TrackedImage {
    const known = earlier.get(expected.reference);
    if (!known) return newlyOwed(expected.reference, now);
    const { reported, isSamePlan } = known;
    return restored(reported, { isSamePlan, expected, now, policy: this.#options.policy });
  }

  /** Logs each problem once, as long as it lasts. */
  #tellProblems(problems: readonly string[]): void {
    for (const problem of problems) {
      if (this.#problems.has(problem)) continue;
      this.#options.log.warn("part of a plan ignored", { problem });
    }
    this.#problems = new Set(problems);
  }
}
