import assert from "node:assert/strict";
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test, type TestContext } from "node:test";

import { imagePlans, nodeReports } from "#api/v1/resources.ts";
import { isJsonObject } from "#json/json.ts";
import { nodes } from "#kube/resource.ts";
import { aNode, aPlan } from "#test/agent-world.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { FakeRuntime } from "#test/fake-runtime.ts";
import { kubeconfig } from "#test/kubeconfig.ts";

const reference = "r.io/x:1";

function startAgent(
  t: TestContext,
  env: Record<string, string>,
): ChildProcessByStdio<null, null, Readable> {
  const program = join(import.meta.dirname, "main.ts");
  const agent = spawn(process.execPath, [program, "agent"], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  t.after(() => agent.kill("SIGKILL"));
  return agent;
}

/** The state that the report of a node has for the image, once it is one. */
async function reportedState(
  server: FakeApiServer,
  { signal }: { signal: AbortSignal },
): Promise<string> {
  for (;;) {
    const report = server.get(nodeReports, "worker");
    const status = report?.["status"];
    if (isJsonObject(status)) {
      const { images } = nodeReports.parse(report).status ?? {};
      const state = images?.find((image) => image.reference === reference)?.state;
      if (state === "available") return state;
    }
    await sleep(20, undefined, { signal });
  }
}

describe("coral agent", () => {
  test("names everything that is wrong with its settings", async (t) => {
    const agent = startAgent(t, {
      NODE_NAME: "",
      CORAL_PULL_TIMEOUT: "10",
      CORAL_PULL_CONCURRENCY: "0",
    });
    const [output] = await Promise.all([text(agent.stderr), once(agent, "exit")]);

    assert.equal(agent.exitCode, 2);
    assert.match(output, /^NODE_NAME is required/m);
    assert.match(output, /^CORAL_PULL_TIMEOUT="10": must be a number with a unit/m);
    assert.match(output, /^CORAL_PULL_CONCURRENCY="0": must be a whole number from 1/m);
  });

  test("pulls and reports as a process, costs nothing when idle, and ends when asked to", async (t) => {
    const signal = AbortSignal.any([t.signal, AbortSignal.timeout(30_000)]);
    await using server = await FakeApiServer.start({ resources: [imagePlans, nodeReports] });
    await using runtime = await FakeRuntime.start();
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-agent-"));
    const config = join(folder.path, "kubeconfig");
    await writeFile(config, kubeconfig(server.config.server));
    runtime.offer(reference);
    server.create(nodes, aNode());
    server.merge(nodes, "worker", { status: aNode().status });
    server.create(imagePlans, aPlan("a/one", [reference]));

    const agent = startAgent(t, {
      NODE_NAME: "worker",
      KUBECONFIG: config,
      CORAL_CRI_SOCKET: `unix://${runtime.socketPath}`,
      CORAL_HEALTH_PORT: "0",
    });
    const output = text(agent.stderr);
    assert.equal(await reportedState(server, { signal }), "available");

    server.requests.length = 0;
    await sleep(3_000, undefined, { signal }); // News that can wait does so for two seconds.
    assert.deepEqual(server.requests, []);

    agent.kill("SIGTERM");
    await once(agent, "exit", { signal });
    assert.equal(agent.exitCode, 0, await output);
  });
});
