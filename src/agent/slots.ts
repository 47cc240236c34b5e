/** Where an agent gets leave to pull an image of which only so many nodes may pull at once. */
export interface SlotSource {
  /**
   * Asks once for a slot of every plan at the same time: all of them, or none.
   *
   * @param plans - keys of ImagePlans, `namespace/name`.
   * @returns when to ask again, if there is none now.
   * @throws if nobody can be asked now, or the signal's reason if aborted.
   */
  acquire(
    plans: readonly string[],
    options: { signal: AbortSignal },
  ): Promise<Slot | { readonly retryAfterMs: number }>;
}

/** A slot that is held, and kept alive, until it is disposed. */
export interface Slot extends AsyncDisposable {
  /** Aborted when the slot could not be kept: another node may have it by now. */
  readonly lost: AbortSignal;
}
