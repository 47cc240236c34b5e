import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { CommandError, run, runToEnd } from "./command.ts";

describe("run()", () => {
  test("passes input and returns both outputs", async ({ signal }) => {
    const argv = ["sh", "-c", "cat; echo oops >&2"];
    assert.deepEqual(await run(argv, { input: "in", signal }), {
      exitCode: 0,
      stdout: "in",
      stderr: "oops\n",
    });
  });

  test("rejects with the exit code and the last lines of a command that fails", async ({
    signal,
  }) => {
    const failing = run(["sh", "-c", "echo why >&2; exit 3"], { signal });
    await assert.rejects(failing, (error) => {
      assert.ok(error instanceof CommandError);
      assert.equal(error.exitCode, 3);
      assert.match(error.message, /exited with 3:\nwhy/);
      return true;
    });
  });

  test("kills a command that takes too long", async ({ signal }) => {
    const slow = run(["sleep", "60"], { timeoutMs: 50, signal });
    await assert.rejects(slow, /took longer than 50 ms/);
  });

  test("names a program that is not there", async ({ signal }) => {
    await assert.rejects(run(["/no/such/program"], { signal }), /cannot be run/);
  });

  test("rejects with the signal's reason when aborted", async () => {
    const stop = new AbortController();
    const running = run(["sleep", "60"], { signal: stop.signal });
    const reason = new Error("enough");
    stop.abort(reason);
    await assert.rejects(running, reason);
  });
});

describe("runToEnd()", () => {
  test("returns another exit code than 0 as a result", async ({ signal }) => {
    assert.equal((await runToEnd(["false"], { signal })).exitCode, 1);
  });
});
