type Outcome = "done" | "abandoned" | { readonly error: unknown };

/** Has work done once that several want at the same time: they wait for whoever was first. */
export class SharedWork {
  readonly #running = new Map<string, Promise<Outcome>>();

  /**
   * Does the work, or waits for the one who is doing it. Its failure is everybody's, but not its being
   * aborted: then the next one does it anew.
   *
   * @param work - it must not wait for work of the same key, not even through others.
   * @returns whether it was done here.
   */
  async do(key: string, signal: AbortSignal, work: () => Promise<void>): Promise<boolean> {
    for (;;) {
      signal.throwIfAborted();
      const running = this.#running.get(key);
      if (!running) break;
      const outcome = await running;
      if (outcome === "done") return false;
      if (outcome !== "abandoned") throw outcome.error;
    }
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    this.#running.set(key, promise);
    let outcome: Outcome = "done";
    try {
      await work();
      return true;
    } catch (error) {
      outcome = signal.aborted ? "abandoned" : { error };
      throw error;
    } finally {
      this.#running.delete(key);
      resolve(outcome);
    }
  }
}
