import assert from "node:assert/strict";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import { runProgram, type ProgramOptions, type ProgramResult } from "./run-program.ts";

/** Runs JavaScript in a Node of its own. */
async function run(
  code: string,
  options: Partial<ProgramOptions> & { signal: AbortSignal },
): Promise<ProgramResult> {
  const args = ["--input-type=module", "-e", code];
  const common = { env: {}, input: "", maxOutputBytes: 1 << 20 };
  return runProgram(process.execPath, { ...common, args, ...options });
}

/** Waits until a process is no more. */
async function isGone(pid: number, { signal }: { signal: AbortSignal }): Promise<void> {
  for (;;) {
    // Nobody may have fetched its exit code: then it is a zombie.
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    if (stat === "" || /\) Z /.test(stat)) return;
    await sleep(20, undefined, { signal });
  }
}

describe("runProgram()", { timeout: 60_000 }, () => {
  test("gives it input, arguments and exactly this environment", async ({ signal }) => {
    const code = `
      import { readFileSync } from "node:fs";
      const { argv, env } = process;
      console.log(JSON.stringify([readFileSync(0, "utf8"), argv.slice(1), env]));`;
    const args = ["--input-type=module", "-e", code, "--", "$(id); *"];
    const { stdout } = await run("", { args, env: { A: "b" }, input: "in", signal });

    assert.deepEqual(JSON.parse(stdout), ["in", ["$(id); *"], { A: "b" }]);
  });

  test("tells the exit code, stdout and the end of stderr", async ({ signal }) => {
    const code = `
      console.log("out");
      console.error("x".repeat(100_000) + "the end");
      process.exitCode = 3;`;
    const result = await run(code, { signal });

    assert.equal(result.exitCode, 3);
    assert.equal(result.stdout, "out\n");
    assert.equal(result.stderr.length, 4_096);
    assert.ok(result.stderr.endsWith("the end\n"));
  });

  test("does not mind a program that reads nothing", async ({ signal }) => {
    const input = "x".repeat(1 << 20);

    assert.equal((await run("process.exit(0)", { input, signal })).exitCode, 0);
  });

  test("kills a program that writes too much", async ({ signal }) => {
    const code = `for (;;) process.stdout.write("x".repeat(1024)) || await new Promise((go) => process.stdout.once("drain", go));`;
    const { isTooLong, exitCode } = await run(code, { maxOutputBytes: 10_000, signal });

    assert.equal(isTooLong, true);
    assert.equal(exitCode, null);
  });

  test("kills a program that hangs, and what it has started", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-"));
    const pids = join(folder.path, "pids");
    const code = `
      import { spawn } from "node:child_process";
      import { renameSync, writeFileSync } from "node:fs";
      const child = spawn(process.execPath, ["-e", "setTimeout(() => {}, 60_000)"], { stdio: "inherit" });
      writeFileSync("${pids}.draft", process.pid + " " + child.pid);
      renameSync("${pids}.draft", "${pids}");`;
    const stop = new AbortController();
    const running = run(code, { signal: stop.signal });
    const outcome = assert.rejects(running, /enough/);
    let text = "";
    while (text === "") {
      text = await readFile(pids, "utf8").catch(() => "");
      await sleep(20, undefined, { signal });
    }
    stop.abort(new Error("enough"));
    await outcome;

    for (const pid of text.split(" ").map(Number)) await isGone(pid, { signal });
  });

  test("does not wait for what a program leaves behind, and ends it", async ({ signal }) => {
    const code = `
      import { spawn } from "node:child_process";
      const child = spawn(process.execPath, ["-e", "setTimeout(() => {}, 60_000)"], { stdio: "inherit" });
      child.unref();
      process.stdout.write(String(child.pid));`;
    const { stdout, exitCode } = await run(code, { signal });

    assert.equal(exitCode, 0);
    await isGone(Number(stdout), { signal });
  });

  test("rejects if there is no such program", async ({ signal }) => {
    const options = { args: [], env: {}, input: "in", maxOutputBytes: 1, signal };

    await assert.rejects(runProgram("/absent/program", options), { code: "ENOENT" });
  });

  test("starts nothing if aborted before", async () => {
    await assert.rejects(run("", { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
  });
});
