import { TokenBucket } from "#async/token-bucket.ts";
import type { Clock } from "#async/clock.ts";
import type { Log } from "#telemetry/log.ts";
import type { KubeClient } from "./client.ts";
import { formatMicroTime } from "./micro-time.ts";
import { events } from "./resource.ts";
import type { Event, ObjectReference } from "./types.ts";

/** What happened, in the words of events.k8s.io/v1. */
export interface EventRecord {
  regarding: ObjectReference & { kind: string; name: string };
  type: "Normal" | "Warning";
  /** Why, as one word in CamelCase: a finding like `PullFailed`. */
  reason: string;
  /** What was being done, as one word in CamelCase. */
  action: string;
  /** For people; cut after 1,024 bytes. */
  note: string;
  /** What of the object it is about: an event about something else is no repeat. */
  subject?: string;
}

export interface EventRecorderOptions {
  client: Pick<KubeClient, "create" | "patch">;
  /** A qualified name, like `stvz.io/coral-controller`. */
  controller: string;
  /** Tells replicas apart: the pod's name. */
  instance: string;
  clock: Clock;
  log: Log;
}

/** Repeats within this time are one event with a count (client-go's event_broadcaster.go). */
const seriesMs = 6 * 60_000;

/** How often at most a count is written. */
const seriesWriteMs = 60_000;

/** What one object may have written at first, and how fast that comes back. */
const burst = { capacity: 10, refillMs: 30_000 };

/** Objects and series that are remembered. Forgetting costs at most an event too many. */
const maxRemembered = 1_024;

/** Writes in flight. Beyond them the API server has other worries than events. */
const maxInFlight = 32;

const writeTimeoutMs = 10_000;

/**
 * Writes events, in the background. They are a courtesy: what cannot be written is dropped, and
 * nobody waits. A repeat is counted in the first event's series; the last counts may be missing.
 */
export class EventRecorder implements AsyncDisposable {
  readonly #options: EventRecorderOptions;
  readonly #series = new Map<string, Series>();
  readonly #budgets = new Map<string, TokenBucket>();
  readonly #writing = new Set<Promise<void>>();

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Never throws, and returns before anything is written. */
  record(record: EventRecord): void {
    const nowMs = this.#options.clock.now().getTime();
    const { regarding, type, reason, action, subject = "" } = record;
    const object = [regarding.kind, regarding.namespace, regarding.name, regarding.uid].join("/");
    const key = [object, type, reason, action, subject].join("/");
    const series = this.#series.get(key);
    if (series && nowMs - series.lastMs < seriesMs) {
      series.count++;
      series.lastMs = nowMs;
      if (nowMs - series.writtenAtMs < seriesWriteMs) return;
      if (this.#mayWrite(object)) this.#write(series, () => this.#count(series));
      return;
    }
    if (!this.#mayWrite(object)) return;
    const fresh: Series = {
      event: this.#event(record),
      count: 1,
      lastMs: nowMs,
      writtenAtMs: nowMs,
    };
    remember(this.#series, key, fresh);
    this.#write(fresh, () => this.#create(fresh));
  }

  /** Waits for what is being written; 10 s at most. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#writing);
  }

  #mayWrite(object: string): boolean {
    if (this.#writing.size >= maxInFlight) return false;
    const { clock } = this.#options;
    const budget = this.#budgets.get(object) ?? new TokenBucket({ ...burst, clock });
    remember(this.#budgets, object, budget);
    return budget.tryTake();
  }

  #write(series: Series, write: () => Promise<void>): void {
    series.writtenAtMs = series.lastMs;
    const before = series.writing ?? Promise.resolve();
    const writing = before.then(write).catch((error: unknown) => {
      const { regarding, reason } = series.event;
      this.#options.log.debug("event not written", { name: regarding.name, reason, error });
    });
    series.writing = writing;
    this.#writing.add(writing);
    void writing.then(() => this.#writing.delete(writing));
  }

  async #create(series: Series): Promise<void> {
    const signal = AbortSignal.timeout(writeTimeoutMs);
    await this.#options.client.create(events, series.event, { signal });
  }

  async #count({ event, count, lastMs }: Series): Promise<void> {
    const lastObservedTime = formatMicroTime(new Date(lastMs));
    await this.#options.client.patch(
      events,
      { name: event.metadata.name, namespace: namespaceOf(event.regarding) },
      {
        type: "merge",
        body: { series: { count, lastObservedTime } },
        signal: AbortSignal.timeout(writeTimeoutMs),
      },
    );
  }

  #event({ regarding, type, reason, action, note }: EventRecord): Event {
    const { clock, controller, instance } = this.#options;
    const now = clock.now();
    return {
      metadata: { name: eventName(regarding.name), namespace: namespaceOf(regarding) },
      eventTime: formatMicroTime(now),
      type,
      reason,
      action,
      note: cut(note, 1_024),
      regarding,
      reportingController: controller,
      reportingInstance: cut(instance, 128),
    };
  }
}

interface Series {
  readonly event: Event;
  count: number;
  lastMs: number;
  writtenAtMs: number;
  writing?: Promise<void>;
}

/** Events about cluster-scoped objects stand in `default`. */
function namespaceOf({ namespace }: ObjectReference): string {
  return namespace || "default";
}

/** Unique, and beginning with the object's name, as `kubectl get events` readers expect. */
function eventName(name: string): string {
  const unique = crypto.randomUUID().replaceAll("-", "").slice(0, 16);
  return `${name.slice(0, 253 - 1 - unique.length)}.${unique}`;
}

/** Cuts a text to at most so many bytes, between characters. */
function cut(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= maxBytes) return text;
  return bytes
    .subarray(0, maxBytes)
    .toString()
    .replace(/\uFFFD+$/, "");
}

/** Sets an entry as the newest, and drops the oldest beyond the limit. */
function remember<T>(entries: Map<string, T>, key: string, value: T): void {
  entries.delete(key);
  entries.set(key, value);
  const [oldest] = entries.keys();
  if (entries.size > maxRemembered && oldest !== undefined) entries.delete(oldest);
}
