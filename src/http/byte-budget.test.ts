import assert from "node:assert/strict";
import { test } from "node:test";

import { ByteBudget, OverBudgetError } from "./byte-budget.ts";

async function* bytes(...sizes: number[]): AsyncGenerator<Buffer> {
  for (const size of sizes) yield Buffer.alloc(size);
}

async function read(chunks: AsyncIterable<Buffer>): Promise<number> {
  let total = 0;
  for await (const chunk of chunks) total += chunk.length;
  return total;
}

test("readers together hold no more than the budget, and give back what they held", async () => {
  const budget = new ByteBudget(10);
  {
    using one = budget.open();
    using other = budget.open();
    assert.equal(await read(one.count(bytes(3, 3))), 6);
    await assert.rejects(read(other.count(bytes(3, 3))), OverBudgetError);
  }
  using next = budget.open();
  assert.equal(await read(next.count(bytes(10))), 10);
});
