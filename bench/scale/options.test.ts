import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { readOptions } from "./options.ts";

describe("readOptions()", () => {
  test("asks for what the target is about, if told nothing", () => {
    const { nodes, images, tags } = readOptions([], {});

    assert.deepEqual([nodes, images * tags], [1_000, 100]);
  });

  test("takes an argument before the environment", () => {
    const env = { CORAL_BENCH_NODES: "20", CORAL_BENCH_PULL_MS: "500" };

    const { nodes, pullMs } = readOptions(["--nodes", "50"], env);

    assert.deepEqual([nodes, pullMs], [50, 500]);
  });

  test("refuses what is no number in its bounds, and what is no option", () => {
    assert.throws(() => readOptions(["--nodes", "many"], {}), /--nodes="many" must be a whole/);
    assert.throws(() => readOptions(["--processes=0"], {}), /from 1 to 64/);
    assert.throws(() => readOptions(["--node", "5"], {}), /Unknown option '--node'/);
  });
});
