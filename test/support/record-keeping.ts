import { setImmediate } from "node:timers/promises";

import type { Leftover, OwnershipRecord, RecordKeeping } from "#mirror/worker/shard-records.ts";
import type { ContentTarget } from "#oci/content.ts";

type Settled = Parameters<OwnershipRecord["settle"]>[0];

/** A record of copies in memory, which notes what it is asked. */
export class FakeKeeping implements RecordKeeping<FakeKeeping>, OwnershipRecord {
  reads = 0;
  /** What is on record, by tag. */
  readonly digests = new Map<string, string>();
  /** The tags of each write. */
  readonly claims: string[][] = [];
  readonly settled: object[] = [];
  readonly removed: string[] = [];
  leftovers: readonly Leftover[] = [];
  isUnsupported = false;
  /** What fails next. */
  readonly faults: Error[] = [];

  async read(): Promise<this> {
    this.reads++;
    await this.#act();
    return this;
  }

  digestOf(tag: string): string | undefined {
    return this.digests.get(tag);
  }

  async claim(tags: readonly string[]): Promise<void> {
    await this.#act();
    this.claims.push([...tags]);
  }

  async settle({ copied, unchanged, selected, isComplete }: Settled): Promise<readonly Leftover[]> {
    await this.#act();
    this.settled.push({
      copied: Object.fromEntries(copied),
      unchanged: Object.fromEntries(unchanged),
      selected: [...selected].sort(),
      isComplete,
    });
    return this.leftovers;
  }

  async remove(
    _target: ContentTarget,
    approved: readonly { readonly tag: string }[],
  ): Promise<{ removed: readonly string[]; isUnsupported: boolean }> {
    await this.#act();
    const removed = this.isUnsupported ? [] : approved.map(({ tag }) => tag);
    this.removed.push(...removed);
    return { removed, isUnsupported: this.isUnsupported };
  }

  async #act(): Promise<void> {
    await setImmediate();
    const fault = this.faults.shift();
    if (fault) throw fault;
  }
}
