import { addAbortListener } from "node:events";

import type { Semaphore } from "#async/semaphore.ts";
import type { Repository } from "#oci/reference.ts";
import type { KeyringEntry } from "./keyring.ts";
import type { AnswerScope, ProviderResponse } from "./provider-response.ts";

type Scope = { signal: AbortSignal };

/** A way to get an answer, which may fail. */
export type Ask = (repository: Repository, scope: Scope) => Promise<ProviderResponse>;

/** Room for so many questions at a time, of all providers. */
export interface ProviderSlots {
  /** For what had an answer before. */
  readonly proven: Semaphore;
  /** For the rest: who makes names up, for which a program takes its time, holds up nothing that is proven. */
  readonly unproven: Semaphore;
}

export interface ProviderAnswersOptions {
  ask: Ask;
  slots: ProviderSlots;
  /** How long an answer counts that does not say it. */
  defaultCacheMs: number;
  /** Hears of each failure. */
  onFailure: (repository: Repository, error: unknown) => void;
  /** A clock that is never set back. */
  monotonicMs: () => number;
}

/** What a question has come to. A failure leaves no entries. */
interface Outcome {
  readonly entries: readonly KeyringEntry[];
  /** Of what it counts for. */
  readonly key: string;
}

/** What counts for a while. */
interface Kept extends Outcome {
  readonly untilMs: number;
  /** Failures in a row. */
  readonly failures: number;
}

/** After a failure: what is broken must not be started for each image. */
const failure = { minMs: 10_000, maxMs: 2 * 60_000 };

/** Answers that are kept of one provider: whoever names images makes them more. */
const maxKept = 1_000;

/**
 * Keeps the answers of one credential provider as long as they count, and asks for one thing once at a
 * time, however many wait for it.
 *
 * What a failure counts for is not said by the provider: it is what its last answer counted for, but
 * never more than a registry, so that a name made up by one cannot take the logins of another.
 */
export class ProviderAnswers {
  readonly #options: ProviderAnswersOptions;
  /** The latest last. */
  readonly #kept = new Map<string, Kept>();
  readonly #asking = new Map<string, Promise<Outcome>>();
  /** What had an answer before, the latest last. */
  readonly #proven = new Set<string>();
  #lastScope: AnswerScope = "Registry";

  constructor(options: ProviderAnswersOptions) {
    this.#options = options;
  }

  /**
   * What the provider gives for a repository; nothing if it failed a short while ago.
   *
   * @param life - ends the program that is started. Its end is waited for by {@link settled}.
   * @throws the signal's reason, if aborted; the program goes on, for others and for later.
   */
  async entriesFor(
    repository: Repository,
    { signal, life }: Scope & { life: AbortSignal },
  ): Promise<readonly KeyringEntry[]> {
    for (;;) {
      signal.throwIfAborted();
      const known = this.#find(repository);
      if (known) return known.entries;
      const { entries, key } = await abortable(this.#askOnce(repository, life), signal);
      // It may turn out to have been for another image of the same registry alone.
      if (keysOf(repository).includes(key)) return entries;
    }
  }

  /** Waits until no program runs any more. */
  async settled(): Promise<void> {
    while (this.#asking.size > 0) await Promise.allSettled(this.#asking.values());
  }

  /** Finds what counts for a repository, an answer before a failure. */
  #find(repository: Repository): Outcome | undefined {
    const nowMs = this.#options.monotonicMs();
    const all = keysOf(repository).flatMap((key) => this.#kept.get(key) ?? []);
    const current = all.filter(({ untilMs }) => untilMs > nowMs);
    return current.find(({ failures }) => failures === 0) ?? current[0];
  }

  #askOnce(repository: Repository, life: AbortSignal): Promise<Outcome> {
    const key = keyOf(this.#lastScope === "Image" ? "Image" : "Registry", repository);
    const running = this.#asking.get(key);
    if (running) return running;
    const asking = this.#ask(repository, key, life).finally(() => this.#asking.delete(key));
    this.#asking.set(key, asking);
    asking.catch(() => {}); // Whoever waits sees it; perhaps nobody does any more.
    return asking;
  }

  /** @param asked - what it is asked for once at a time, and what a failure counts for. */
  async #ask(repository: Repository, asked: string, life: AbortSignal): Promise<Outcome> {
    const { ask, slots, onFailure, monotonicMs, defaultCacheMs } = this.#options;
    const isProven = this.#proven.has(asked) || this.#lastScope === "Global";
    using _slot = await slots[isProven ? "proven" : "unproven"].acquire({ signal: life });
    // While this waited, an answer for another registry may have come that counts for all.
    const known = this.#find(repository);
    if (known) return known;
    const startMs = monotonicMs();
    try {
      const { scope, cacheMs = defaultCacheMs, entries } = await ask(repository, { signal: life });
      const key = keyOf(scope, repository);
      this.#lastScope = scope;
      this.#prove(asked);
      this.#kept.delete(asked);
      if (cacheMs > 0) this.#keep({ key, entries, untilMs: startMs + cacheMs, failures: 0 });
      return { entries, key };
    } catch (error) {
      life.throwIfAborted();
      onFailure(repository, error);
      const failures = (this.#kept.get(asked)?.failures ?? 0) + 1;
      const waitMs = Math.min(failure.maxMs, failure.minMs * 2 ** (failures - 1));
      const outcome = { key: asked, entries: [] };
      this.#keep({ ...outcome, untilMs: monotonicMs() + waitMs, failures });
      return outcome;
    }
  }

  #prove(asked: string): void {
    this.#proven.delete(asked);
    this.#proven.add(asked);
    const [oldest] = this.#proven;
    if (this.#proven.size > maxKept && oldest !== undefined) this.#proven.delete(oldest);
  }

  #keep(kept: Kept): void {
    this.#kept.delete(kept.key);
    this.#kept.set(kept.key, kept);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > maxKept && oldest !== undefined) this.#kept.delete(oldest);
  }
}

function keyOf(scope: AnswerScope, { registry, path }: Repository): string {
  switch (scope) {
    case "Image":
      return `${registry}/${path}`;
    case "Registry":
      return registry;
    case "Global":
      return "";
    default:
      return scope satisfies never;
  }
}

/** What may be kept for a repository, the narrowest first. */
function keysOf(repository: Repository): readonly string[] {
  return (["Image", "Registry", "Global"] as const).map((scope) => keyOf(scope, repository));
}

/** Waits with an own signal for what others wait for too. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: left, reject } = Promise.withResolvers<never>();
  using _ = addAbortListener(signal, () => reject(signal.reason));
  return await Promise.race([promise, left]);
}
