import assert from "node:assert/strict";
import { test } from "node:test";

import { runMeasured, waitedCpuSecondsOf } from "./measured-run.ts";

const options = { env: {}, signal: new AbortController().signal };

test("the time of ended children is read, whatever the program's name", () => {
  const stat = "42 (a) b (c) S 1 2 3 0 -1 4 5 6 7 8 100 200 350 50 20 0 11 0";
  assert.equal(waitedCpuSecondsOf(stat), 4);
});

test("a program's time and memory are measured", async () => {
  const work =
    "const all = Buffer.alloc(100e6, 1); const end = Date.now() + 300; while (Date.now() < end);";
  const figures = await runMeasured([process.execPath, "-e", work], options);
  assert.ok(figures.seconds > 0.3, `${figures.seconds} s`);
  assert.ok(figures.cpuSeconds > 0.05, `${figures.cpuSeconds} s of CPU`);
  assert.ok(figures.peakMegabytes > 100, `${figures.peakMegabytes} MB`);
});

test("a program that fails is an error with what it said", async () => {
  const fails = [process.execPath, "-e", "console.error('no such repository'); process.exit(3)"];
  await assert.rejects(runMeasured(fails, options), /ended with 3:\nno such repository/);
});
