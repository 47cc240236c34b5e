/** Counts what is under way, in all and by name. It forgets names that have nothing under way. */
export class Tally {
  readonly #counts = new Map<string, number>();
  #total = 0;

  get total(): number {
    return this.#total;
  }

  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  /** Lists the names that have something under way, and how much. */
  entries(): IterableIterator<[name: string, count: number]> {
    return this.#counts.entries();
  }

  /** Counts one that goes on behalf of all these names. */
  count(names: readonly string[], change: 1 | -1): void {
    this.#total += change;
    for (const name of names) {
      const count = this.of(name) + change;
      if (count === 0) this.#counts.delete(name);
      else this.#counts.set(name, count);
    }
  }
}
