import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { cpuSecondsOf, megabytesOf, readProcess } from "./processes.ts";

describe("megabytesOf()", () => {
  test("counts in millions of bytes what the kernel gives in kibibytes", () => {
    const status = "VmPeak:\t  999 kB\nVmRSS:\t  62500 kB\nRssAnon:\t    1 kB\n";

    assert.equal(megabytesOf(status, "VmRSS"), 64);
  });

  test("refuses a text without the field", () => {
    assert.throws(() => megabytesOf("VmPeak:\t 1 kB\n", "VmRSS"), /field "VmRSS"/);
  });
});

describe("cpuSecondsOf()", () => {
  test("adds user and kernel time, whatever the program is called", () => {
    const stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 9 9 20 0 11 0 1";

    assert.equal(cpuSecondsOf(stat), 1.75);
  });
});

describe("readProcess()", () => {
  test("finds what this process holds, and never more than it held at its peak", async () => {
    const figures = await readProcess(process.pid);

    assert.ok(figures.residentMegabytes > 10);
    assert.ok(figures.peakResidentMegabytes >= figures.residentMegabytes);
    assert.ok(figures.proportionalMegabytes > 0);
    assert.ok(figures.cpuSeconds > 0);
  });
});
