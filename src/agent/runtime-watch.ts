import { isAbort } from "#async/abort.ts";
import { fullJitter } from "#async/backoff.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { UnsupportedError } from "#cri/rpc-error.ts";
import type { Log } from "#telemetry/log.ts";
import type { Inventory } from "./inventory.ts";
import type { AgentMetrics } from "./metrics.ts";
import type { Runtime, RuntimeVersion } from "./runtime.ts";
import { Wake } from "./wake.ts";

/** One pull or removal changes several records; they are looked at together. */
const burstMs = 200;

/** A runtime without events is asked this often: a removed image has to be back within 60 s. */
const pollMs = 30_000;

/** The runtime confirms no subscription, so what came in its first moments may have been missed. */
const settleMs = 5_000;

/** For events that got lost. Costs the node a list of names, and the API server nothing. */
const resyncMs = 300_000;

/** Short, as the kubelet pulls by itself as soon as the runtime is back. */
const backoff = { minMs: 500, maxMs: 10_000 };

export interface RuntimeWatchOptions {
  runtime: Runtime;
  /** Kept equal to what the runtime has. */
  inventory: Inventory;
  clock: Clock;
  random: () => number;
  log: Log;
  metrics: Pick<AgentMetrics, "reconnects">;
  /** Called after each look at the runtime, and when it is lost. */
  onChange: () => void;
}

/**
 * Keeps an inventory equal to what the runtime has: reads everything at first, after each burst of
 * image events, and after each loss of the runtime; where there are no events, every 30 s.
 */
export class RuntimeWatch {
  readonly #options: RuntimeWatchOptions;
  readonly #wake: Wake;
  #version: RuntimeVersion | undefined;
  #isConnected = false;

  constructor(options: RuntimeWatchOptions) {
    this.#options = options;
    this.#wake = new Wake(options.clock);
  }

  /** Whether the runtime answers, as far as is known. */
  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** What the runtime is; known as soon as the inventory was read once. */
  get version(): RuntimeVersion | undefined {
    return this.#version;
  }

  /** Watches until aborted. No fault of the runtime ends it. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, random, onChange } = this.#options;
    for (let failures = 1; ; failures++) {
      try {
        await this.#session(signal);
      } catch (error) {
        if (isAbort(error, signal)) return;
        if (this.#isConnected) failures = 1;
        if (failures === 1) log.warn("container runtime lost", { error });
        else log.debug("container runtime still lost", { error, attempt: failures });
      }
      this.#isConnected = false;
      onChange();
      try {
        await clock.sleep(fullJitter(failures, { ...backoff, random }), { signal });
      } catch (error) {
        if (isAbort(error, signal)) return;
        throw error;
      }
    }
  }

  /** Goes on until the runtime is lost. */
  async #session(signal: AbortSignal): Promise<void> {
    const { runtime } = this.#options;
    const version = await runtime.version({ signal });
    await using group = new TaskGroup(signal);
    // Before the first list, so that no change falls between the two.
    const events = runtime.imageEvents({ signal: group.signal });
    const feed = { hasEvents: true };
    const listen = async (): Promise<void> => {
      try {
        for await (const _ of events) this.#wake.notify();
      } catch (error) {
        if (!(error instanceof UnsupportedError)) throw error;
        feed.hasEvents = false;
        this.#wake.notify();
      }
    };
    await Promise.all([
      group.run(listen),
      group.run((signal) => this.#readAgainAndAgain(version, feed, signal)),
    ]);
  }

  async #readAgainAndAgain(
    version: RuntimeVersion,
    feed: { hasEvents: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, random, log } = this.#options;
    await this.#read(signal);
    log.info("container runtime connected", { runtime: version.name, version: version.version });
    if (this.#version !== undefined) this.#options.metrics.reconnects.inc({});
    this.#version = version;
    this.#isConnected = true;
    this.#options.onChange();
    for (let quietMs = settleMs; ; quietMs = resyncMs) {
      const waitMs = feed.hasEvents ? quietMs : pollMs;
      await this.#wake.wait({ signal, timeoutMs: Math.ceil(waitMs * (1 - random() / 5)) });
      await clock.sleep(burstMs, { signal });
      await this.#read(signal);
      this.#options.onChange();
    }
  }

  async #read(signal: AbortSignal): Promise<void> {
    const { runtime, inventory } = this.#options;
    const read = inventory.beginRead();
    inventory.endRead(read, await runtime.listImages({ signal }));
  }
}
