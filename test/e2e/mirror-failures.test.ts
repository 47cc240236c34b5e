import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { installCoral } from "#sandbox/install-coral.ts";
import { openRegistry, privateRegistry, tokenRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";
import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import type { Descriptor } from "#oci/content.ts";
import { FakeRegistry, type FakeRepository } from "#test/fake-repository.ts";
import { addImage, configType } from "#test/images.ts";
import { isSynced, MirrorCluster, team } from "#test/mirror-cluster.ts";
import { pullSecret } from "#test/pull-secrets.ts";

const report = (line: string): void => console.error(line);
const [coral] = privateRegistry.logins;
const mebibyte = 1024 * 1024;

const sourceOf = (path: string): string => `${openRegistry.host}/${path}`;

/** Puts an image of layers of random bytes in. */
function addLarge(
  repository: FakeRepository,
  tag: string,
  mebibytes: readonly number[],
): Descriptor[] {
  const layers = mebibytes.map((size) => repository.addBlob(randomBytes(size * mebibyte)));
  const config = repository.addBlob(
    JSON.stringify({ os: "linux", architecture: "amd64", tag }),
    configType,
  );
  const value = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociImage,
    config: formatDescriptor(config),
    layers: layers.map((layer) => formatDescriptor(layer)),
  };
  repository.addManifest(value, { tag });
  return layers;
}

describe("what goes wrong with Mirrors on a real cluster", { timeout: 20 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let mirrors: MirrorCluster;

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 3, report, signal });
    await installCoral(sandbox, { mirror: { CORAL_LEASE_DURATION: "5s" }, signal });
    mirrors = await MirrorCluster.of(sandbox);
    await sandbox.kubectl(["create", "namespace", team], scope);
    const metadata = { namespace: team, name: "writer" };
    await mirrors.cluster.apply(pullSecret(metadata, { [privateRegistry.host]: coral }), scope);
  });
  after(async () => {
    await mirrors[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });
  beforeEach(async () => sandbox.upstream.forgetRequests(scope));
  afterEach(async () => {
    await sandbox.upstream.setFaults([], scope);
    await sandbox.kubectl(["-n", team, "delete", "mirrors", "--all"], scope);
  });

  /** Applies a Mirror into the private registry. */
  async function mirror(name: string, source: string, tags: readonly string[]): Promise<void> {
    const repositories = [{ name: source, tags }];
    const to = { registry: `${privateRegistry.host}/copies`, pushSecret: { name: "writer" } };
    await mirrors.mirror(name, { ...to, repositories }, scope);
  }

  test("a worker dies in mid-blob: another finishes, and sends nothing again that had arrived", async () => {
    const source = new FakeRegistry().repository("org/app");
    const [small, large] = addLarge(source, "1", [1, 40]);
    assert.ok(small && large);
    await mirrors.serve(source, "org/dying", ["1"], scope);
    const path = `/org/dying/blobs/${large.digest}`;
    const slow = { kind: "slow", method: "GET", path, bytesPerSecond: 4 * mebibyte } as const;
    await sandbox.upstream.setFaults([slow], scope);
    await mirror("dying", sourceOf("org/dying"), ["1"]);
    const inMidBlob = async (): Promise<string | undefined> => {
      const [shard] = await mirrors.shards("dying", scope);
      const requests = await mirrors.requests(scope);
      const isUnderWay = requests.some(
        (each) => each.path.endsWith(path) && each.sentBytes > 4 * mebibyte,
      );
      const hasSmall = requests.some(
        ({ method, path: to, status }) =>
          method === "PUT" && to.includes(encodeURIComponent(small.digest)) && status === 201,
      );
      return isUnderWay && hasSmall ? shard?.status?.worker : undefined;
    };
    const victim = await waitFor(inMidBlob, {
      what: "a worker in mid-blob",
      timeoutMs: 60_000,
      signal,
    });
    const pod = await sandbox.kubectl(
      ["-n", "coral-system", "get", "pod", victim, "-o", "jsonpath={.spec.nodeName}"],
      scope,
    );
    const node = sandbox.node(pod.stdout);
    await sandbox.stop(`${node.name}/kubelet`, scope); // Else it would be there again at once.
    await mirrors.killWorker(node, scope);
    const other = await waitFor(
      async () => {
        const [shard] = await mirrors.shards("dying", scope);
        const worker = shard?.status?.worker;
        return worker !== victim ? worker : undefined;
      },
      { what: "another worker to take over", timeoutMs: 30_000, signal },
    );
    assert.notEqual(other, victim);
    await mirrors.statusIs("dying", isSynced, scope);
    const sent = (await mirrors.requests(scope)).filter(
      ({ method, path: to }) => method === "PUT" && to.includes(encodeURIComponent(small.digest)),
    );
    assert.equal(sent.length, 1);
    await sandbox.start(`${node.name}/kubelet`, scope);
    await mirrors.workersReady(2, scope);
  });

  test("goes on where a blob's stream broke, and reads nothing twice", async () => {
    const source = new FakeRegistry().repository("org/app");
    const [layer] = addLarge(source, "1", [8]);
    assert.ok(layer);
    await mirrors.serve(source, "org/broken", ["1"], scope);
    const path = `/org/broken/blobs/${layer.digest}`;
    await sandbox.upstream.setFaults(
      [{ kind: "reset", method: "GET", path, afterBytes: 3 * mebibyte, times: 2 }],
      scope,
    );
    await mirror("broken", sourceOf("org/broken"), ["1"]);
    await mirrors.statusIs("broken", isSynced, scope);
    const gets = (await mirrors.requests(scope)).filter(
      (each) => each.method === "GET" && each.path.endsWith(path),
    );
    const bytes = gets.reduce((sum, { sentBytes }) => sum + sentBytes, 0);

    assert.equal(gets.length, 3);
    assert.ok(bytes < 10 * mebibyte, `${bytes} bytes for a layer of ${8 * mebibyte}`);
  });

  test("a blob of other bytes than its digest says is refused and named, and the other tags come", async () => {
    const source = new FakeRegistry().repository("org/app");
    const [layer] = addLarge(source, "bad", [2]);
    assert.ok(layer);
    addImage(source, ["good"], { tag: "good" });
    await mirrors.serve(source, "org/wrong", ["bad", "good"], scope);
    await sandbox.upstream.setFaults(
      [{ kind: "corrupt", method: "GET", path: `/org/wrong/blobs/${layer.digest}` }],
      scope,
    );
    await mirror("wrong", sourceOf("org/wrong"), ["bad", "good"]);
    const status = await mirrors.statusIs(
      "wrong",
      ({ failed, synced }) => failed === 1 && synced === 1,
      scope,
    );
    const [failure] = status.failures ?? [];

    assert.equal(failure?.reference, `${sourceOf("org/wrong")}:bad`);
    assert.match(failure?.message ?? "", new RegExp(layer.digest));
    await sandbox.upstream.setFaults([], scope);
    await mirrors.statusIs("wrong", isSynced, scope);
  });

  test("a registry that does not answer, and images that hardly move, delay no other Mirror", async () => {
    const slow = new FakeRegistry().repository("org/app");
    const tags = Array.from({ length: 40 }, (_, index) => `v${index}`);
    for (const tag of tags) addLarge(slow, tag, [1]);
    await mirrors.serve(slow, "org/slow", tags, scope);
    await mirrors.serve(slow, "org/quick", ["v1"], scope);
    const path = "/org/slow/blobs/";
    await sandbox.upstream.setFaults(
      [
        { kind: "silence", host: tokenRegistry.host },
        { kind: "slow", method: "GET", path, bytesPerSecond: 10_000 },
      ],
      scope,
    );
    await mirror("silent", `${tokenRegistry.host}/team-a/silent`, tags);
    await mirror("slow", sourceOf("org/slow"), tags);
    const areBusy = async (): Promise<true | undefined> => {
      const requests = await mirrors.requests(scope);
      const ofSlow = requests.filter((each) => each.path.includes(path) && !each.endTime);
      return (
        (ofSlow.length >= 8 && requests.some(({ host }) => host === tokenRegistry.host)) ||
        undefined
      );
    };
    await waitFor(areBusy, { what: "both to be asked", timeoutMs: 60_000, signal });
    await mirror("quick", sourceOf("org/quick"), ["v1"]);
    await mirrors.statusIs("quick", isSynced, { ...scope, timeoutMs: 20_000 });
    const others = await Promise.all(
      ["silent", "slow"].map((name) => mirrors.statusIs(name, () => true, scope)),
    );

    assert.deepEqual(others.map(isSynced), [false, false]);
  });

  test("a quota of 100 requests in a window for 300 tags: three workers send none that is refused, nothing fails, and another login does not wait", async () => {
    await mirrors.scaleWorkers(3, scope);
    const other = { username: "other", password: "shoal" };
    await sandbox.upstream.setLogins(privateRegistry, [coral, other]);
    for (const [name, login] of Object.entries({ reader: coral, other })) {
      const secret = pullSecret({ namespace: team, name }, { [privateRegistry.host]: login });
      await mirrors.cluster.apply(secret, scope);
    }
    const tags = Array.from({ length: 100 }, (_, index) => `v${index}`);
    const source = new FakeRegistry().repository("org/app");
    for (const tag of tags) addImage(source, [`layer ${tag}`], { tag });
    const names = ["quota-a", "quota-b", "quota-c", "second"];
    for (const name of names) {
      await mirrors.serve(source, `org/${name}`, tags, scope);
      await mirror(`serve-${name}`, sourceOf(`org/${name}`), tags);
    }
    for (const name of names) {
      await mirrors.statusIs(`serve-${name}`, isSynced, { ...scope, timeoutMs: 120_000 });
    }
    await sandbox.upstream.forgetRequests(scope);
    const quota = { kind: "quota", limit: 100, windowSeconds: 15 } as const;
    const { host } = privateRegistry;
    await sandbox.upstream.setFaults(
      [{ ...quota, host, method: "GET", path: "/manifests/" }],
      scope,
    );
    const limited = async (
      name: string,
      secret: string,
      some: readonly string[],
    ): Promise<void> => {
      const from = `${host}/copies/registry.test_5000/org/${name}`;
      const spec = {
        repositories: [{ name: from, tags: some }],
        imagePullSecrets: [{ name: secret }],
        destination: `limited/${name}`,
      };
      await mirrors.mirror(name, spec, scope);
    };
    const throttled = new Set<string>();
    for (const name of names.slice(0, 3)) await limited(name, "reader", tags);
    await mirrors.statusIs("quota-a", (status) => status.throttled > 0, scope);
    await limited("second", "other", tags.slice(0, 20));
    await mirrors.statusIs("second", isSynced, scope);
    const [first] = await mirrors.shards("quota-a", scope);
    assert.ok((first?.status?.synced ?? 0) < tags.length, "the first login still waits");
    for (const name of names.slice(0, 3)) {
      await mirrors.statusIs(
        name,
        (status) => {
          assert.equal(status.failed, 0);
          if (status.throttled > 0) throttled.add(name);
          return isSynced(status);
        },
        { ...scope, timeoutMs: 240_000 },
      );
    }
    const refused = (await mirrors.requests(scope)).filter(({ fault }) => fault === "quota");

    assert.deepEqual(
      refused.map(({ path }) => path),
      [],
    );
    assert.ok(throttled.size > 0, "somebody had to wait");
  });
});
