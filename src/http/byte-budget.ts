/** All bodies together have more bytes than there is room for. */
export class OverBudgetError extends Error {
  override readonly name = "OverBudgetError";
  readonly code = "OVER_BUDGET";
  readonly retryable = true;
}

/** A part of a budget that one reader uses, and gives back when disposed. */
export interface BudgetShare extends Disposable {
  /** Passes chunks on. @throws {OverBudgetError} at the first for which there is no room. */
  count(chunks: AsyncIterable<Buffer>): AsyncIterable<Buffer>;
}

/** Bounds the bytes that many readers hold at the same time. */
export class ByteBudget {
  #free: number;

  constructor(bytes: number) {
    this.#free = bytes;
  }

  open(): BudgetShare {
    let held = 0;
    const take = (bytes: number): void => {
      if (bytes > this.#free) throw new OverBudgetError("All readers together hold too much");
      this.#free -= bytes;
      held += bytes;
    };
    return {
      async *count(chunks) {
        for await (const chunk of chunks) {
          take(chunk.length);
          yield chunk;
        }
      },
      [Symbol.dispose]: () => {
        this.#free += held;
        held = 0;
      },
    };
  }
}
