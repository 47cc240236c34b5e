import { addAbortListener } from "node:events";

import { fullJitter } from "#async/backoff.ts";
import { PullError } from "#cri/pull-error.ts";
import type { PullCredentials } from "#cri/runtime-client.ts";
import type { Node } from "#kube/types.ts";
import { parseReference } from "#oci/reference.ts";
import {
  lackOfSpace,
  neededBytes,
  roomIn,
  shareOf,
  type DiskClaim,
  type DiskPolicy,
  type DiskSource,
} from "./disk.ts";
import type { WaitReason } from "./failure.ts";
import { LoginsUnavailableError, type LoginSource } from "./logins.ts";
import type { OwedImage } from "./owed.ts";
import type { Runtime } from "./runtime.ts";
import type { Slot, SlotSource } from "./slots.ts";
import type { StallWatch } from "./stall-watch.ts";
import type { Finding } from "./tracked-image.ts";

/** Space comes back when somebody removes something, which nobody tells. */
const diskRecheckMs = 30_000;

/** How soon a controller that is away is asked again. */
const absenceBackoff = { minMs: 2_000, maxMs: 60_000 };

/** Bounds of what the controller may ask to wait for a slot. */
const slotRetry = { minMs: 1_000, maxMs: 60_000 };

export interface PullerDeps {
  runtime: Pick<Runtime, "pull">;
  /** Without it, images are pulled as the runtime is configured. */
  logins?: LoginSource | undefined;
  /** Without it, nothing is bounded across nodes. */
  slots?: SlotSource | undefined;
  /** Without it, a pull has all of its time. */
  stalls?: Pick<StallWatch, "guard" | "isStill"> | undefined;
  /** Without it, every image fits. */
  disk?: { readonly source: DiskSource; readonly policy: DiskPolicy } | undefined;
  /** Longest wait for one image, layers included. */
  timeoutMs: number;
  /** How often logins are waited for before a pull is tried without. */
  patience: number;
  random: () => number;
}

/** How things stand when a pull is begun. */
export interface PullAttempt {
  readonly node: Node | undefined;
  /** How large another version of the image is that the node has; 0 if it has none. */
  readonly heldBytes: number;
  /** Failed pulls before. */
  readonly attempts: number;
  /** How often in a row it was put off before. */
  readonly postponements: number;
  readonly signal: AbortSignal;
}

/** How a pull ended that did not fail. */
export type PullOutcome =
  | { readonly isDone: true }
  | { readonly isDone: false; readonly why: WaitFinding; readonly retryAfterMs: number };

/** What a pull waits for. */
export type WaitFinding = Finding & { readonly reason: WaitReason };

/**
 * Carries out one pull: sees whether there is room, gets logins and a slot if they are needed, pulls,
 * and gives up if nothing comes.
 */
export class Puller {
  readonly #deps: PullerDeps;
  /** By running pull. */
  readonly #claims = new Map<string, Omit<DiskClaim, "isStill">>();

  constructor(deps: PullerDeps) {
    this.#deps = deps;
  }

  /**
   * Pulls an image, or says what it has to wait for. Whatever it waits for, it does so elsewhere: it
   * holds none of the node's places for pulls meanwhile.
   *
   * @throws {PullError} or another error if the pull fails, and the signal's reason if aborted.
   */
  async pull(image: OwedImage, attempt: PullAttempt): Promise<PullOutcome> {
    const lack = await this.#claimSpace(image, attempt);
    if (lack !== undefined) {
      return this.#waits("InsufficientDisk", lack, this.#later(diskRecheckMs));
    }
    try {
      return await this.#pullWithLogins(image, attempt);
    } finally {
      this.#claims.delete(image.reference);
    }
  }

  /** Claims room for an image. @returns why it has none. */
  async #claimSpace(image: OwedImage, attempt: PullAttempt): Promise<string | undefined> {
    const { disk, stalls } = this.#deps;
    const bytes = disk ? neededBytes(image, attempt, disk.policy) : 0;
    if (!disk || bytes === 0) return undefined;
    const space = await disk.source.space({ signal: attempt.signal });
    if (!space) return undefined;
    // Nothing is awaited from here until the claim: what does not fit takes nothing from others.
    const claims = [...this.#claims].map(([reference, claim]) => ({
      ...claim,
      isStill: stalls?.isStill(reference) ?? false,
    }));
    const room = roomIn(space, disk.policy);
    const { namespace, othersBytes } = shareOf(image.namespaces, claims, room);
    const lack = lackOfSpace({ needBytes: bytes, othersBytes }, space, disk.policy);
    if (lack === undefined) this.#claims.set(image.reference, { namespace, bytes });
    return lack;
  }

  async #pullWithLogins(image: OwedImage, attempt: PullAttempt): Promise<PullOutcome> {
    const { postponements } = attempt;
    const noLogins = (): PullOutcome =>
      this.#awaits("NoCredentials", "the controller cannot be asked for logins", postponements);
    const logins = await this.#loginsFor(image, attempt);
    // The runtime may be able to pull it without: an image that is public does not wait for ever.
    if (!logins && postponements < this.#deps.patience) return noLogins();
    try {
      return await this.#pullWithSlot(image, logins ?? [], attempt);
    } catch (error) {
      // Which says nothing of the logins it has: registries hide from strangers what is private.
      if (!logins && (isDenial(error) || isNotFound(error))) return noLogins();
      throw error;
    }
  }

  /** @returns `undefined` if they cannot be had now. */
  async #loginsFor(
    { reference, loginPlans }: OwedImage,
    { signal }: PullAttempt,
  ): Promise<readonly PullCredentials[] | undefined> {
    const { logins } = this.#deps;
    if (!logins || loginPlans.length === 0) return [];
    try {
      return await logins.loginsFor(reference, { signal });
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof LoginsUnavailableError) return undefined;
      throw error;
    }
  }

  async #pullWithSlot(
    image: OwedImage,
    logins: readonly PullCredentials[],
    attempt: PullAttempt,
  ): Promise<PullOutcome> {
    const { slots } = this.#deps;
    const { signal, postponements } = attempt;
    if (!slots || image.slotPlans.length === 0) {
      await this.#pullGuarded(image, logins, attempt, signal);
      return { isDone: true };
    }
    let slot: Slot | { readonly retryAfterMs: number } | undefined;
    // Whoever lets it begin first will do: none of those who bound it speaks for the others, nor does
    // one that cannot be asked about keep them from being asked.
    for (const plan of image.slotPlans) {
      try {
        slot = await slots.acquire([plan], { signal });
      } catch {
        signal.throwIfAborted();
        continue;
      }
      if (!("retryAfterMs" in slot)) break;
    }
    if (!slot) {
      const why = "the controller gave no answer about a slot";
      return this.#awaits("WaitingForSlot", why, postponements);
    }
    if ("retryAfterMs" in slot) {
      const { minMs, maxMs } = slotRetry;
      const retryAfterMs = Math.min(Math.max(slot.retryAfterMs, minMs), maxMs);
      return this.#waits(
        "WaitingForSlot",
        "as many nodes as may are pulling it",
        this.#later(retryAfterMs),
      );
    }
    return await this.#pullHolding(slot, image, logins, attempt);
  }

  async #pullHolding(
    slot: Slot,
    image: OwedImage,
    logins: readonly PullCredentials[],
    attempt: PullAttempt,
  ): Promise<PullOutcome> {
    const { signal, postponements } = attempt;
    await using held = slot; // Let go when the pull has ended, and not before.
    const stop = new AbortController();
    using _asked = addAbortListener(signal, () => stop.abort(signal.reason));
    using _lost = addAbortListener(held.lost, () => stop.abort(new Error("The slot is lost")));
    try {
      await this.#pullGuarded(image, logins, attempt, stop.signal);
      return { isDone: true };
    } catch (error) {
      signal.throwIfAborted();
      if (!held.lost.aborted) throw error;
      return this.#awaits("WaitingForSlot", "the slot was lost", postponements);
    }
  }

  async #pullGuarded(
    image: OwedImage,
    logins: readonly PullCredentials[],
    { attempts }: PullAttempt,
    signal: AbortSignal,
  ): Promise<void> {
    const { reference, digest = parseReference(reference).digest } = image;
    const { stalls } = this.#deps;
    const work = (signal: AbortSignal): Promise<void> => this.#tryLogins(reference, logins, signal);
    if (!stalls) return await work(signal);
    await stalls.guard({ reference, digest, attempts }, work, { signal });
  }

  /** Tries each login while the registry denies, and at last none. */
  async #tryLogins(
    reference: string,
    logins: readonly PullCredentials[],
    signal: AbortSignal,
  ): Promise<void> {
    const { runtime, timeoutMs } = this.#deps;
    let denial: unknown; // The first: that of the login that fits best.
    for (const credentials of [...logins, undefined]) {
      try {
        await runtime.pull(reference, { ...(credentials && { credentials }), timeoutMs, signal });
        return;
      } catch (error) {
        // Registries hide from strangers what they deny to a wrong login: the denial tells more.
        if (denial !== undefined && !credentials && isOfRegistry(error)) throw denial;
        if (!isDenial(error)) throw error;
        denial ??= error;
      }
    }
    throw denial;
  }

  #waits(reason: WaitReason, message: string, retryAfterMs: number): PullOutcome {
    return { isDone: false, why: { reason, message }, retryAfterMs };
  }

  /** So that what waits on many nodes does not come back together. */
  #later(ms: number): number {
    return Math.ceil(ms * (1 + this.#deps.random()));
  }

  /** Waits for the controller, which is not there. */
  #awaits(reason: WaitReason, message: string, postponements: number): PullOutcome {
    const { random } = this.#deps;
    const retryAfterMs = fullJitter(postponements + 1, { ...absenceBackoff, random });
    return this.#waits(reason, message, retryAfterMs);
  }
}

/** Whether a registry's answer, rather than the node, made a pull fail. */
function isOfRegistry(error: unknown): boolean {
  return (
    error instanceof PullError && error.code !== "RUNTIME_UNAVAILABLE" && error.code !== "DISK_FULL"
  );
}

function isNotFound(error: unknown): boolean {
  return error instanceof PullError && error.code === "IMAGE_NOT_FOUND";
}

function isDenial(error: unknown): boolean {
  return error instanceof PullError && error.code === "PULL_DENIED";
}
