import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import type { ImageStatus } from "#api/v1/image.ts";
import { images, nodeReports } from "#api/v1/resources.ts";
import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { openRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";
import { Cluster, isReady } from "#test/cluster.ts";
import { hostileFaults, hostileImage } from "#test/hostile.ts";

const report = (line: string): void => console.error(line);
const hostile = { namespace: "hostile", name: "bad" };
const badNames = 500;

describe("a hostile Image beside a good one", { timeout: 15 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let cluster: Cluster;

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
    await installCoral(sandbox, scope);
    cluster = new Cluster(sandbox, await sandbox.connect());
    await sandbox.kubectl(["create", "namespace", hostile.namespace], scope);
    await sandbox.upstream.setFaults(hostileFaults, scope);
    await cluster.apply(hostileImage(hostile), scope);
  });
  after(async () => {
    await cluster.client[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });

  /** Waits until the hostile Image's status is as `isRight` wants it, and returns it. */
  async function hostileStatus(isRight: (status: ImageStatus) => boolean): Promise<ImageStatus> {
    let last: ImageStatus | undefined;
    const look = async (): Promise<ImageStatus | undefined> => {
      last = (await cluster.client.get(images, hostile, scope))?.status;
      return last && isRight(last) ? last : undefined;
    };
    const explain = (): string => JSON.stringify({ ...last, data: [], images: [] });
    const what = "the status of the hostile Image";
    return waitFor(look, { what, everyMs: 500, timeoutMs: 120_000, explain, signal });
  }

  /** Waits until a pull of the hostile Image hangs in each slot of the registry's half, on each node. */
  async function hanging(): Promise<void> {
    await waitFor(
      async () => {
        const requests = await sandbox.upstream.requests(scope);
        const hung = requests.filter(({ fault }) => fault === "silence");
        const addresses = sandbox.nodes.map(({ layout }) => layout.address);
        return addresses.every(
          (address) => hung.filter(({ from }) => from === address).length >= 2,
        );
      },
      { what: "its pulls to hang", timeoutMs: 120_000, signal },
    );
  }

  test("its names are told as errors, each in few words", async () => {
    const status = await hostileStatus(({ images: each }) =>
      (each ?? []).some(({ lastError }) => lastError?.reason === "Denied"),
    );

    assert.equal(status.totalImages, badNames);
    assert.equal(status.images?.length, badNames);
    assert.equal(isReady(status), false);
    assert.ok(status.conditions?.some(({ type, message }) => type === "Ready" && message));
    const messages = status.images.map(({ lastError }) => lastError?.message ?? "");
    assert.ok(messages.every(({ length }) => length <= 256));
  });

  test("the good one of another namespace is Ready while the bad one's pulls hang", async () => {
    await hanging();
    for (const variant of [31, 32, 33]) {
      const folder = await ensureSmallVariant(variant, sandbox.programs, scope);
      const good = `${openRegistry.host}/e2e/good-${variant}:1`;
      await sandbox.push(folder, good, scope);
      await cluster.want("good", [good], scope);
      const status = await cluster.ready("good", 2, scope);

      assert.deepEqual(status.condition, { available: 2, pending: 0, error: 0, unknown: 0 });
    }
    const bad = await hostileStatus(({ totalNodes }) => totalNodes === 2);
    assert.equal(bad.condition.available, 0);
  });

  test("no object of Coral grows beyond what the API server keeps with ease", async () => {
    const sizes = await objectSizes();
    const kinds = new Set(sizes.map(({ key }) => key.split("/")[3]));

    assert.deepEqual(kinds, new Set(["imageplans", "images", "nodereports"]));
    // etcd refuses more than 1.5 MiB; half of it for the largest that the API lets through.
    for (const { key, bytes } of sizes) assert.ok(bytes < 768 * 1024, `${key}: ${bytes} bytes`);
    const { items } = await cluster.client.list(nodeReports, scope);
    for (const { status } of items) {
      const messages = status?.images.map(({ message = "" }) => message) ?? [];
      assert.ok(messages.length > badNames && messages.every(({ length }) => length <= 256));
    }
  });

  test("no part of Coral had to be started again", async () => {
    const container = "{.restartCount}{.lastState.terminated}";
    const line = `{.metadata.name}:{range .status.containerStatuses[*]}${container}{end}`;
    const pods = `jsonpath={range .items[*]}${line}{"\\n"}{end}`;
    const get = ["-n", "coral-system", "get", "pods", "-o", pods];
    assert.match((await sandbox.kubectl(get, scope)).stdout, /^(\S+:0\n)+$/);
  });

  test("its end takes all of it along", async () => {
    const { namespace, name } = hostile;
    await sandbox.kubectl(["-n", namespace, "delete", "images.stvz.io", name], scope);
    await waitFor(
      async () => {
        const { items } = await cluster.client.list(nodeReports, scope);
        return items.every(({ status }) => status?.images.length === 1);
      },
      { what: "the reports to forget it", everyMs: 500, signal },
    );
  });

  /** How large Coral's objects are in etcd. */
  async function objectSizes(): Promise<{ key: string; bytes: number }[]> {
    const range = { key: btoa("/registry/stvz.io/"), range_end: btoa("/registry/stvz.io0") };
    const program = `
      const body = ${JSON.stringify(JSON.stringify(range))};
      const answer = await fetch("http://127.0.0.1:2379/v3/kv/range", { method: "POST", body });
      const { kvs } = await answer.json();
      const decode = (text) => Buffer.from(text, "base64");
      console.log(JSON.stringify(kvs.map(({ key, value }) => ({ key: String(decode(key)), bytes: decode(value).length }))));`;
    const argv = [process.execPath, "--input-type=module", "-e", program];
    const sizes: unknown = JSON.parse((await sandbox.exec(argv, scope)).stdout);
    assert.ok(Array.isArray(sizes));
    return sizes;
  }
});
