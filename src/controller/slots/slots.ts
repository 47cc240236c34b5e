import { once } from "node:events";

import { SlotTable } from "./slot-table.ts";

/** The table of slots, which only the leader has: in memory alone, and made anew by each leader. */
export class Slots {
  readonly #monotonicMs: () => number;
  #table: SlotTable | undefined;

  /** @param monotonicMs - a clock that is never set: a jump would free every slot at once. */
  constructor(monotonicMs: () => number = () => performance.now()) {
    this.#monotonicMs = monotonicMs;
  }

  /** `undefined` while another replica leads, or none. */
  get table(): SlotTable | undefined {
    return this.#table;
  }

  nowMs(): number {
    return this.#monotonicMs();
  }

  /** Has a table until aborted. */
  async lead(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    this.#table = new SlotTable(this.#monotonicMs());
    try {
      await once(signal, "abort");
    } finally {
      this.#table = undefined;
    }
  }
}
