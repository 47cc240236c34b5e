import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";

import { ensureDebianPackages } from "#sandbox/debian-packages.ts";
import { removeOrphans } from "#sandbox/tear-down.ts";
import { ensurePrograms } from "#sandbox/toolchain/build.ts";
import { waitFor } from "#sandbox/wait.ts";
import { root } from "./generated.ts";
import { compileCache, conformanceTestFiles, endToEndTestFiles, unitTestFiles } from "./project.ts";

/** Longest time of one test file: a hang must end well before CI's own limit. */
const fileTimeoutMs = 20 * 60_000;

/** Tests that take longer than this are named at the end. */
const longMs = 10_000;

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(name, () => stop.abort(new Error(`Received ${name}`)));
}

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const long: { name: string; seconds: number }[] = [];

process.env["NODE_COMPILE_CACHE"] = compileCache; // For the test files' processes.

// A failed stage does not keep the next one from running: one run tells all.
const scope = { report: (line: string) => console.log(line), signal: stop.signal };
await stage("checks", async () => add(await runChecks()));
await stage("unit tests", () => runTests(unitTestFiles, 4));
await stage("programs of the sandbox", async () => {
  await ensureDebianPackages(scope);
  await ensurePrograms(scope);
});
await stage("conformance tests", () => runTests(conformanceTestFiles, 1));
await stage("end-to-end tests", () => runTests(endToEndTestFiles, 1));
if (stop.signal.aborted) await childrenEnded();
await removeOrphans({ signal: AbortSignal.timeout(120_000) });

for (const { name, seconds } of long.toSorted((a, b) => b.seconds - a.seconds)) {
  console.log(`${seconds.toFixed(1).padStart(7)} s  ${name}`);
}
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`${total.passed} passed, ${total.failed} failed${skipped}`);
if (total.failed > 0 || total.passed === 0 || stop.signal.aborted) process.exitCode = 1;

/** After an abort, test files live on for a moment; their sandboxes have an owner until then. */
async function childrenEnded(): Promise<void> {
  const children = `/proc/self/task/${process.pid}/children`;
  await waitFor(async () => (await readFile(children, "utf8")).trim() === "", {
    what: "the test files to end",
    timeoutMs: 20_000,
    signal: AbortSignal.timeout(30_000),
  });
}

/** Runs one stage and says how long it took; its own failure counts as one. */
async function stage(name: string, work: () => Promise<void>): Promise<void> {
  if (stop.signal.aborted) return;
  console.log(`\n== ${name}`);
  const start = performance.now();
  try {
    await work();
  } catch (error) {
    console.error(error);
    add({ passed: 0, failed: 1, skipped: 0 });
  }
  console.log(`== ${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
}

/** Format, types, lint, import direction, dead code and generated files: together one test. */
async function runChecks(): Promise<Counts> {
  const argv = ["tools/check.ts", "--without-tests"];
  const child = spawn(process.execPath, argv, { cwd: root, stdio: "inherit" });
  const interrupt = (): boolean => child.kill("SIGINT");
  stop.signal.addEventListener("abort", interrupt, { once: true });
  const [exitCode] = await once(child, "close");
  stop.signal.removeEventListener("abort", interrupt);
  const failed = exitCode === 0 ? 0 : 1;
  return { passed: 1 - failed, failed, skipped: 0 };
}

async function runTests(globPatterns: readonly string[], concurrency: number): Promise<void> {
  const stream = run({
    globPatterns: [...globPatterns],
    cwd: root,
    concurrency,
    timeout: fileTimeoutMs,
    signal: stop.signal,
  });
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  stream.on("test:summary", ({ file, counts: summed }) => {
    if (file !== undefined) return; // The summary of all files is the one without a file.
    counts.passed = summed.passed;
    counts.failed = summed.tests - summed.passed - summed.skipped - summed.todo;
    counts.skipped = summed.skipped + summed.todo;
  });
  stream.on("test:pass", ({ name, details }) => {
    if (details.type === "suite" || details.duration_ms < longMs) return;
    long.push({ name, seconds: details.duration_ms / 1000 });
  });
  for await (const chunk of stream.compose(spec)) process.stdout.write(String(chunk));
  if (counts.passed + counts.failed === 0)
    throw new Error(`No test ran in ${globPatterns.join(" ")}`);
  add(counts);
}

function add({ passed, failed, skipped: left }: Counts): void {
  total.passed += passed;
  total.failed += failed;
  total.skipped += left;
}
