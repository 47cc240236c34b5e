import assert from "node:assert/strict";
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test, type TestContext } from "node:test";

import { mirrorShards, registryBudgets } from "#api/v1/resources.ts";
import { leases } from "#kube/resource.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { kubeconfig } from "#test/kubeconfig.ts";

const program = join(import.meta.dirname, "main.ts");

function startWorker(
  t: TestContext,
  argv: readonly string[],
  env: Record<string, string>,
): ChildProcessByStdio<null, null, Readable> {
  const worker = spawn(process.execPath, [program, "mirror", ...argv], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  t.after(() => worker.kill("SIGKILL"));
  return worker;
}

/** A port that nobody has at the moment. */
async function freePort(): Promise<number> {
  await using server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return address !== null && typeof address !== "string" ? address.port : 0;
}

/** Waits until something is there. */
async function until<T>(
  find: () => T | undefined,
  { signal }: { signal: AbortSignal },
): Promise<T> {
  for (;;) {
    const found = find();
    if (found !== undefined) return found;
    await sleep(20, undefined, { signal });
  }
}

describe("coral mirror", () => {
  test("names everything that is wrong with its settings", async (t) => {
    const env = { POD_NAMESPACE: "", POD_NAME: "", CORAL_LEASE_DURATION: "1s" };
    const worker = startWorker(t, ["--mirror-runs-at-once=0", "--what"], env);
    const [output] = await Promise.all([text(worker.stderr), once(worker, "exit")]);

    assert.equal(worker.exitCode, 2);
    assert.match(output, /^POD_NAMESPACE is required/m);
    assert.match(output, /^POD_NAME is required/m);
    assert.match(output, /^CORAL_LEASE_DURATION="1s": must be/m);
    assert.match(output, /^--mirror-runs-at-once="0": must be/m);
    assert.match(output, /^--what is unknown/m);
  });

  test("is the command of a person where a word follows", async (t) => {
    const worker = startWorker(t, ["walk"], {});
    const [output] = await Promise.all([text(worker.stderr), once(worker, "exit")]);

    assert.equal(worker.exitCode, 2);
    assert.match(output, /unknown command 'walk'/);
  });

  test("does its shards as a process, and lets go of all when asked to", async (t) => {
    const signal = AbortSignal.any([t.signal, AbortSignal.timeout(30_000)]);
    await using server = await FakeApiServer.start({ resources: [mirrorShards, registryBudgets] });
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-mirror-"));
    const config = join(folder.path, "kubeconfig");
    await writeFile(config, kubeconfig(server.config.server));
    const port = await freePort();
    // It is a machine of its own that is asked, which no Mirror may reach.
    const shard = aMirrorShard({ source: "127.0.0.1:1/app", target: "127.0.0.1:1/copy" });
    server.create(mirrorShards, shard);

    const worker = startWorker(t, [], {
      POD_NAMESPACE: "coral-system",
      POD_NAME: "coral-mirror-a",
      POD_UID: "u1",
      KUBECONFIG: config,
      CORAL_HEALTH_PORT: String(port),
    });
    const output = text(worker.stderr);
    const status = await until(
      () => {
        const { status } = mirrorShards.parse(server.get(mirrorShards, "team/app-1"));
        return status?.lastSyncTime === undefined ? undefined : status;
      },
      { signal },
    );
    assert.equal(status.failed, 1);
    assert.equal(status.observedGeneration, 1);
    const lease = leases.parse(server.get(leases, "coral-system/coral-mirror-a"));
    assert.equal(lease.spec?.holderIdentity, "coral-mirror-a");
    assert.deepEqual(lease.metadata.ownerReferences, [
      { apiVersion: "v1", kind: "Pod", name: "coral-mirror-a", uid: "u1" },
    ]);
    const ready = await fetch(`http://127.0.0.1:${port}/readyz`, { signal });
    assert.equal(ready.status, 200, await ready.text());
    const metrics = await fetch(`http://127.0.0.1:${port}/metrics`, { signal });
    assert.match(await metrics.text(), /^coral_mirror_runs_total\{result="done"\} 1$/m);

    worker.kill("SIGTERM");
    await once(worker, "exit");
    assert.equal(worker.exitCode, 0, await output);
    assert.equal(server.get(leases, "coral-system/coral-mirror-a"), undefined);
  });
});
