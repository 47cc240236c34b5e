import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

interface Ending {
  code: number | null;
  signal: NodeJS.Signals | null;
  lines: string[];
}

/** Runs a service in a process of its own and sends it signals, each when it has printed a line. */
async function run(
  service: string,
  signals: NodeJS.Signals[],
  drainTimeoutMs = 60_000,
): Promise<Ending> {
  const code = `
    import { setTimeout } from "node:timers/promises";
    import { jsonLog } from "#telemetry/log.ts";
    import { runProcess } from "#lifecycle/run-process.ts";
    const log = jsonLog({ level: "info", write: (line) => process.stdout.write(line) });
    await runProcess({ log, drainTimeoutMs: ${drainTimeoutMs} }, ${service});`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", code], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines: string[] = [];
  const left = [...signals];
  const exit = once(child, "exit");
  for await (const line of createInterface(child.stdout)) {
    const { message, error } = JSON.parse(line);
    lines.push(error ? `${message}: ${error.message}` : message);
    const next = left.shift();
    if (next) child.kill(next);
  }
  const [exitCode, signal] = await exit;
  return { code: exitCode, signal, lines };
}

const waiting = `async (signal) => {
  log.info("waiting");
  await setTimeout(60_000, undefined, { signal });
}`;

describe("runProcess()", () => {
  test("ends with 0 when the service returns", async () => {
    const ending = await run(`async () => log.info("done")`, []);

    assert.deepEqual(ending, { code: 0, signal: null, lines: ["done"] });
  });

  test("ends with 1 and says why when the service fails", async () => {
    const ending = await run(`async () => { throw new Error("no socket"); }`, []);

    assert.deepEqual(ending, { code: 1, signal: null, lines: ["service failed: no socket"] });
  });

  test("ends with 0 when a signal stops it", async () => {
    const ending = await run(waiting, ["SIGTERM"]);

    assert.deepEqual(ending, { code: 0, signal: null, lines: ["waiting", "stopping"] });
  });

  test("is killed by the same signal again", async () => {
    const stubborn = `async () => {
      log.info("waiting");
      await setTimeout(60_000);
    }`;
    const ending = await run(stubborn, ["SIGINT", "SIGINT"]);

    assert.deepEqual(ending, { code: null, signal: "SIGINT", lines: ["waiting", "stopping"] });
  });

  test("ends with 1 when the drain hangs", async () => {
    const leaky = `async () => {
      setInterval(() => {}, 1_000);
      log.info("waiting");
      await setTimeout(60_000);
    }`;
    const ending = await run(leaky, ["SIGTERM"], 50);

    assert.deepEqual(ending, {
      code: 1,
      signal: null,
      lines: ["waiting", "stopping", "drain timed out"],
    });
  });
});
