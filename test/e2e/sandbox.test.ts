import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtempDisposable, readdir, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";

import { CommandError, run } from "#sandbox/command.ts";
import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { controlPlaneAddress, Layout } from "#sandbox/layout.ts";
import { repositoryRoot } from "#sandbox/paths.ts";
import {
  openRegistry,
  privateRegistry,
  tokenRealm,
  tokenRegistry,
  upstreamHosts,
} from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import type { SandboxNode } from "#sandbox/sandbox-node.ts";
import { namespaceIdsOf, processesInNamespaces, remainsOf, tearDown } from "#sandbox/tear-down.ts";
import { waitFor } from "#sandbox/wait.ts";

const report = (line: string): void => console.error(line);

describe("Sandbox", { timeout: 20 * 60_000 }, () => {
  let sandbox: Sandbox;
  let linksBefore: string;

  before(async () => {
    linksBefore = await hostLinks(AbortSignal.timeout(10_000));
    const signal = AbortSignal.timeout(60 * 60_000); // The first start ever builds the programs.
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
  });
  after(() => sandbox[Symbol.asyncDispose]());

  test("runs pods that reach each other by Service name across nodes", async ({ signal }) => {
    await apply(sandbox, signal, [
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "hello", namespace: "default" },
        spec: { selector: { app: "hello" }, ports: [{ port: 80, targetPort: 8080 }] },
      },
      aPod("hello", "node1", Sandbox.images.small),
      aPod("caller", "node2", Sandbox.images.large),
    ]);
    await podsReady(sandbox, ["hello", "caller"], signal);

    const program = 'fetch("http://hello.default/").then((r) => r.text()).then(console.log)';
    const call = ["exec", "caller", "--", "/usr/local/bin/node", "-e", program];
    const answer = await waitFor(() => sandbox.kubectl(call, { signal }), {
      what: "the Service to answer",
      timeoutMs: 20_000,
      signal,
    });

    assert.equal(answer.stdout.trim(), "hello from hello");
  });

  test("gives every node containerd at the default path, with images of its own", async ({
    signal,
  }) => {
    const [first, second] = [sandbox.node("node1"), sandbox.node("node2")];
    await first.crictl(["pull", Sandbox.images.index], { signal });

    assert.equal(await holds(first, Sandbox.images.index, signal), true);
    assert.equal(await holds(second, Sandbox.images.index, signal), false);
  });

  test("lets no packet out: every route ends in its own bridge, no link leads to the host", async ({
    signal,
  }) => {
    assert.deepEqual(await hostLinks(signal), linksBefore);
    // An address of TEST-NET-1 (RFC 5737) stands for any address outside.
    const route = ["ip", "route", "get", "192.0.2.1"];
    const { stdout: fromNode } = await sandbox.node("node1").exec(route, { signal });
    const { stdout: fromControlPlane } = await sandbox.exec(route, { signal });

    assert.match(fromNode, /via 10\.240\.0\.1 dev eth0/);
    assert.match(fromControlPlane, /dev coral0/);
    const links = await sandbox.exec(["ip", "-j", "link", "show", "type", "veth"], { signal });
    const peers: unknown = JSON.parse(links.stdout);
    assert.ok(Array.isArray(peers));
    assert.equal(peers.length, sandbox.nodes.length, "one link for each node, and none besides");
    assert.equal(await connects(sandbox.node("node1"), "10.240.0.1", 6443, signal), true);
  });

  test("cuts and restores one node's link", async ({ signal }) => {
    const [cut, whole] = [sandbox.node("node1"), sandbox.node("node2")];
    await cut.cutLink({ signal });
    const whileCut = [
      await connects(cut, "10.240.0.1", 6443, signal),
      await connects(whole, "10.240.0.1", 6443, signal),
    ];
    await cut.restoreLink({ signal });

    assert.deepEqual(whileCut, [false, true]);
    await waitFor(() => connects(cut, "10.240.0.1", 6443, signal), { what: "the link", signal });
  });

  test("limits the rate of a node's link", async ({ signal }) => {
    const node = sandbox.node("node2");
    await node.limitRate(4, { signal });
    const start = performance.now();
    await node.crictl(["pull", Sandbox.images.index], { signal });
    const seconds = (performance.now() - start) / 1000;
    await node.limitRate(undefined, { signal });

    // Over 2 MB at 0.5 MB/s cannot arrive sooner: a bound of physics, not of this machine's speed.
    assert.ok(seconds > 3, `${seconds} s`);
  });

  test("kills, stops and starts any component, and the cluster goes on", async ({ signal }) => {
    for (const [verb, component] of [
      ["kill", "etcd"],
      ["kill", "kube-apiserver"],
      ["stop", "kube-scheduler"],
      ["kill", "node1/containerd"],
      ["stop", "node1/kubelet"],
    ] as const) {
      await sandbox[verb](component, { signal });
      const dead = await sandbox.components();
      assert.equal(dead.find(({ id }) => id === component)?.pid, undefined);
      await sandbox.start(component, { signal });
    }
    await waitFor(() => sandbox.kubectl(["get", "--raw", "/readyz"], { signal }), {
      what: "the API server to serve again",
      signal,
    });
    await podsReady(sandbox, ["hello"], signal);
  });

  test("joins a node to the running cluster, and takes it away", async ({ signal }) => {
    const node = await sandbox.addNode({ signal });
    const joined = await sandbox.kubectl(["get", "nodes", "-o", "name"], { signal });
    await sandbox.removeNode(node.name, { signal });
    const left = await sandbox.kubectl(["get", "nodes", "-o", "name"], { signal });

    assert.match(joined.stdout, /node3/);
    assert.doesNotMatch(left.stdout, /node3/);
    const remains = await remainsOf(sandbox.layout);
    assert.deepEqual(
      remains.namespaces.filter((name) => name === node.layout.namespace),
      [],
    );
    assert.deepEqual(
      remains.cgroups.filter((name) => name === node.layout.cgroup),
      [],
    );
  });

  test("has a bridge whose address no node gives it, so that none takes it away", async ({
    signal,
  }) => {
    const { stdout } = await sandbox.exec(["ip", "-j", "link", "show"], { signal });
    const links: unknown = JSON.parse(stdout);
    assert.ok(Array.isArray(links));
    const addressOf = new Map(links.map(({ ifname, address }) => [ifname, address]));
    const bridge = addressOf.get("coral0");
    addressOf.delete("coral0");

    assert.match(String(bridge), /^[0-9a-f:]{17}$/);
    assert.ok(![...addressOf.values()].includes(bridge), `a port of the bridge has ${bridge} too`);
  });

  test("serves an image for two platforms", async ({ signal }) => {
    const manifest = await registryGet(sandbox, "/v2/library/multi/manifests/1", signal);
    const index: unknown = JSON.parse(manifest.body);
    assert.ok(typeof index === "object" && index && "manifests" in index);
    assert.ok(Array.isArray(index.manifests));
    const platforms = index.manifests.map(({ platform }) => String(platform.architecture));

    assert.deepEqual(platforms.toSorted(), ["amd64", "arm64"]);
  });

  test("asks for a login at the private registry, and takes the right one", async ({ signal }) => {
    const node = sandbox.node("node1");
    const pull = ["pull", `${privateRegistry.host}/library/none:1`];
    const [{ username, password }] = privateRegistry.logins;
    const anonymous = await failureOf(node.crictl(pull, { signal }));
    const login = ["pull", "--creds", `${username}:${password}`, ...pull.slice(1)];
    const known = await failureOf(node.crictl(login, { signal }));

    assert.match(anonymous, /401|authorization failed|no basic auth/i);
    assert.match(known, /not found/i);
  });

  test("asks for a token at the token registry, and its realm knows each team's login", async ({
    signal,
  }) => {
    const node = sandbox.node("node1");
    const reference = `${tokenRegistry.host}/team-a/hello:1`;
    const folder = await ensureSmallVariant(99, sandbox.programs, { signal });
    await sandbox.push(folder, reference, { signal });
    const pull = (...login: string[]): Promise<string> => {
      const creds = login.length > 0 ? ["--creds", login.join(":")] : [];
      return failureOf(node.crictl(["pull", ...creds, reference], { signal }));
    };
    await sandbox.upstream.forgetRequests({ signal });

    assert.match(await pull(), /insufficient_scope|authorization failed/);
    assert.match(await pull("anna", "wrong"), /401 Unauthorized/);
    assert.match(await pull("ben", "barnacle"), /insufficient_scope|authorization failed/);
    assert.equal(await pull("anna", "anemone"), "");
    const requests = await sandbox.upstream.requests({ signal });
    const seen = new Set(requests.map(({ host, login }) => `${host} ${login?.username ?? ""}`));
    assert.deepEqual(
      [...seen].toSorted(),
      ["", "anna", "ben"]
        .map((name) => `${tokenRealm.host} ${name}`)
        .concat(`${tokenRegistry.host} `),
    );
  });

  test("gives a token for an identity token too", async ({ signal }) => {
    const program = `
      const grant = { grant_type: "refresh_token", refresh_token: "anna-for-ever" };
      const body = new URLSearchParams({ ...grant, scope: "repository:team-a/hello:pull" });
      console.log(await (await fetch("${realmAddress}", { method: "POST", body })).text());`;
    const argv = [process.execPath, "--input-type=module", "-e", program];
    assert.match((await sandbox.exec(argv, { signal })).stdout, /"access_token":"ey/);
  });

  test("changes the logins of a registry at any time", async ({ signal }) => {
    const node = sandbox.node("node2");
    for (const registry of [privateRegistry, tokenRegistry]) {
      const reference = `${registry.host}/team-a/changing:1`;
      const folder = await ensureSmallVariant(99, sandbox.programs, { signal });
      await sandbox.push(folder, reference, { signal });
      const creds = (password: string): Promise<string> =>
        failureOf(node.crictl(["pull", "--creds", `new:${password}`, reference], { signal }));

      for (const password of ["first", "second"]) {
        await sandbox.upstream.setLogins(registry, [{ username: "new", password }]);
        assert.equal(await creds(password), "");
      }
      assert.notEqual(await creds("first"), "");
      await sandbox.upstream.setLogins(registry, registry.logins);
    }
  });

  test("lets pods find and reach its registries by name", async ({ signal }) => {
    await apply(sandbox, signal, [aPod("finder", "node1", Sandbox.images.large)]);
    await podsReady(sandbox, ["finder"], signal);
    const urls = upstreamHosts.map(({ host }) => `http://${host}/v2/`);
    const program = `for (const url of ${JSON.stringify(urls)}) console.log((await fetch(url)).status)`;
    const call = [
      "exec",
      "finder",
      "--",
      "/usr/local/bin/node",
      "--input-type=module",
      "-e",
      program,
    ];

    assert.equal((await sandbox.kubectl(call, { signal })).stdout, "200\n401\n401\n200\n");
  });

  describe("the upstream's faults", () => {
    const blob = "/v2/library/node/manifests/26";

    afterEach(() => sandbox.upstream.setFaults([], { signal: AbortSignal.timeout(10_000) }));

    /** Path of the image's largest layer. */
    async function layerPath(signal: AbortSignal): Promise<string> {
      const { body } = await registryGet(sandbox, blob, signal);
      const digest = [...body.matchAll(/"digest":"(sha256:[0-9a-f]{64})","size":(\d+)/g)]
        .toSorted(([, , a], [, , b]) => Number(b) - Number(a))
        .at(0)?.[1];
      return `/v2/library/node/blobs/${digest}`;
    }

    test("status: answers 429 with its headers, as often as told", async ({ signal }) => {
      await sandbox.upstream.setFaults(
        [{ kind: "status", status: 429, headers: { "retry-after": "7" }, path: blob, times: 1 }],
        { signal },
      );
      const first = await registryGet(sandbox, blob, signal);
      const second = await registryGet(sandbox, blob, signal);

      assert.deepEqual([first.status, first.retryAfter, second.status], [429, "7", 200]);
    });

    test("refuse: nobody listens", async ({ signal }) => {
      await sandbox.upstream.setFaults([{ kind: "refuse", host: openRegistry.host }], { signal });
      const refused = await failureOf(registryGet(sandbox, blob, signal));
      await sandbox.upstream.setFaults([], { signal });
      const after = await registryGet(sandbox, blob, signal);

      assert.notEqual(refused, "");
      assert.equal(after.status, 200);
    });

    test("silence: no answer comes", async ({ signal }) => {
      await sandbox.upstream.setFaults([{ kind: "silence", path: blob }], { signal });
      const patience = AbortSignal.any([signal, AbortSignal.timeout(1_000)]);
      const failure = await failureOf(registryGet(sandbox, blob, patience));

      assert.match(failure, /timeout/i);
    });

    test("reset: the connection breaks in mid-blob", async ({ signal }) => {
      const layer = await layerPath(signal);
      await sandbox.upstream.setFaults([{ kind: "reset", path: layer, afterBytes: 1e6 }], {
        signal,
      });
      await sandbox.upstream.forgetRequests({ signal });
      const failure = await failureOf(registryGet(sandbox, layer, signal));
      const [record] = await sandbox.upstream.requests({ signal });

      assert.equal(record?.sentBytes, 1e6);
      assert.match(failure, /terminated|reset|closed|fetch failed/i);
    });

    test("stall: the body stops, and the connection stays open", async ({ signal }) => {
      await sandbox.upstream.setFaults([{ kind: "stall", path: blob, afterBytes: 100 }], {
        signal,
      });
      const patience = AbortSignal.any([signal, AbortSignal.timeout(1_000)]);
      const failure = await failureOf(registryGet(sandbox, blob, patience));

      assert.match(failure, /timeout/i);
    });

    test("corrupt: the bytes differ, their number does not", async ({ signal }) => {
      await sandbox.upstream.setFaults([], { signal });
      const right = await registryGet(sandbox, blob, signal);
      await sandbox.upstream.setFaults([{ kind: "corrupt", path: blob }], { signal });
      const wrong = await registryGet(sandbox, blob, signal);

      assert.notEqual(wrong.body, right.body);
    });

    test("slow: the body takes as long as its rate says", async ({ signal }) => {
      await sandbox.upstream.setFaults([{ kind: "slow", path: blob, bytesPerSecond: 400 }], {
        signal,
      });
      const start = performance.now();
      const { body } = await registryGet(sandbox, blob, signal);
      const seconds = (performance.now() - start) / 1000;
      await sandbox.upstream.setFaults([], { signal });

      assert.ok(seconds >= (body.length / 400) * 0.9, `${body.length} bytes in ${seconds} s`);
    });

    test("counts every request", async ({ signal }) => {
      await sandbox.upstream.forgetRequests({ signal });
      await registryGet(sandbox, blob, signal);
      const records = await sandbox.upstream.requests({ signal });

      assert.deepEqual(
        records.map(({ method, path, status }) => ({ method, path, status })),
        [{ method: "GET", path: blob, status: 200 }],
      );
    });
  });

  test("stands beside another one with the same addresses", async ({ signal }) => {
    await using other = await Sandbox.start({ nodes: 1, signal });
    const ours = await sandbox.kubectl(["get", "nodes", "-o", "name"], { signal });
    const theirs = await other.kubectl(["get", "nodes", "-o", "name"], { signal });

    assert.equal(ours.stdout.trim(), "node/node1\nnode/node2");
    assert.equal(theirs.stdout.trim(), "node/node1");
    const { layout } = other;
    const ids = await namespaceIdsOf(layout);
    assert.notDeepEqual(await processesInNamespaces(ids), []);
    await other.down({ signal });
    assert.deepEqual(await remainsOf(layout), nothing);
    assert.deepEqual(await processesInNamespaces(ids), [], "no process lives on, named or not");
  });

  test("of a killed process is removed by the next start, and leaves nothing", async ({
    signal,
  }) => {
    const layout = new Layout(`k${process.pid}`);
    const program = `
      import { Sandbox } from "#sandbox/sandbox.ts";
      await Sandbox.start({ name: "${layout.name}", nodes: 1, signal: AbortSignal.timeout(120_000) });
      console.log("up");
      setInterval(() => {}, 1000);`;
    const argv = ["--input-type=module", "-e", program];
    const child = spawn(process.execPath, argv, {
      cwd: repositoryRoot,
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data", { signal });
    child.kill("SIGKILL");
    await once(child, "close", { signal });
    const left = await remainsOf(layout);
    const ids = await namespaceIdsOf(layout);
    const next = await Sandbox.start({ nodes: 0, signal });
    await next.down({ signal }); // The kernel may have given it the same namespace id again.

    assert.notDeepEqual(left.processes, [], "the kill left something to remove");
    assert.deepEqual(await remainsOf(layout), nothing);
    assert.deepEqual(await processesInNamespaces(ids), []);
  });

  test("refuses to free the cache that its programs come from", async ({ signal }) => {
    // The cache that it would remove is not the real one: the guard itself is what is tested.
    await using folder = await mkdtempDisposable(join(tmpdir(), "cache-"));
    const argv = [process.execPath, "sandbox/cli.ts", "clean"];
    const env = { ...process.env, CORAL_CACHE: folder.path };
    const refusal = await failureOf(run(argv, { cwd: repositoryRoot, env, signal }));

    assert.match(refusal, new RegExp(`end them first: .*${sandbox.name}`));
  });

  test("frees the cache when no sandbox runs", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "cache-"));
    const cache = join(folder.path, "coral");
    await mkdir(join(cache, "go-mod/module"), { recursive: true });
    await chmod(join(cache, "go-mod/module"), 0o555); // As Go leaves its module cache.
    const env = {
      ...process.env,
      CORAL_CACHE: cache,
      CORAL_SANDBOX_DIR: join(folder.path, "sandboxes"),
    };
    await run([process.execPath, "sandbox/cli.ts", "clean"], { cwd: repositoryRoot, env, signal });

    assert.deepEqual(await readdir(cache), ["tools"]);
    assert.deepEqual(await readdir(join(cache, "tools")), []);
  });

  test("does not take a name that a living process uses", async ({ signal }) => {
    const { name } = sandbox;
    await assert.rejects(Sandbox.start({ name, nodes: 0, signal }), /is in use by process \d+/);
    assert.deepEqual(
      (await sandbox.kubectl(["get", "nodes", "-o", "name"], { signal })).exitCode,
      0,
    );
  });

  test("uses a program of CORAL_SANDBOX_BIN instead of building it", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "bin-"));
    await symlink(sandbox.programs.file("crictl"), join(folder.path, "crictl"));
    const program = `
      import { ensurePrograms } from "#sandbox/toolchain/build.ts";
      const programs = await ensurePrograms({ report: console.error, signal: AbortSignal.timeout(60_000) });
      console.log(programs.file("crictl"), programs.file("crane"));`;
    const env = { ...process.env, CORAL_SANDBOX_BIN: folder.path };
    const argv = [process.execPath, "--input-type=module", "-e", program];
    const { stdout } = await run(argv, { cwd: repositoryRoot, env, signal });

    assert.equal(stdout.trim(), `${folder.path}/crictl ${sandbox.programs.file("crane")}`);
  });

  test("names the components that there are when asked for another", async ({ signal }) => {
    const argv = [process.execPath, "sandbox/cli.ts", "logs", "--name", sandbox.name, "bogus"];
    const refusal = await failureOf(run(argv, { cwd: repositoryRoot, signal }));

    assert.match(refusal, /Component "bogus" must be one of: coredns, etcd, /);
  });

  test("is torn down again and again without an error", async ({ signal }) => {
    const layout = new Layout(`d${process.pid}`);
    await tearDown(layout, { signal });
    await tearDown(layout, { signal });

    assert.deepEqual(await remainsOf(layout), nothing);
  });
});

/** The token realm's own address: names of the sandbox's internet are known to nodes and pods alone. */
const realmAddress = `http://${controlPlaneAddress}:${tokenRealm.port}/token`;

const nothing = { processes: [], namespaces: [], cgroups: [], mounts: [], folders: [] };

/** The host's own links, as the kernel lists them. */
async function hostLinks(signal: AbortSignal): Promise<string> {
  return (await run(["ip", "-br", "link"], { signal })).stdout;
}

function aPod(name: string, nodeName: string, image: string): unknown {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default", labels: { app: name } },
    spec: { nodeName, terminationGracePeriodSeconds: 1, containers: [{ name: "main", image }] },
  };
}

async function apply(sandbox: Sandbox, signal: AbortSignal, items: unknown[]): Promise<void> {
  const input = JSON.stringify({ apiVersion: "v1", kind: "List", items });
  await sandbox.kubectl(["apply", "-f", "-"], { input, signal });
}

async function podsReady(sandbox: Sandbox, names: string[], signal: AbortSignal): Promise<void> {
  const pods = names.map((name) => `pod/${name}`);
  const wait = ["wait", "--for=condition=Ready", "--timeout=60s", ...pods];
  await sandbox.kubectl(wait, { timeoutMs: 90_000, signal });
}

async function holds(node: SandboxNode, image: string, signal: AbortSignal): Promise<boolean> {
  const { stdout } = await node.crictl(["images", "-o", "json"], { signal });
  return stdout.includes(image);
}

async function connects(
  node: SandboxNode,
  host: string,
  port: number,
  signal: AbortSignal,
): Promise<boolean> {
  const dial = ["timeout", "2", "bash", "-c", `exec 3<>/dev/tcp/${host}/${port}`];
  return (await failureOf(node.exec(dial, { signal }))) === "";
}

async function registryGet(
  sandbox: Sandbox,
  path: string,
  signal: AbortSignal,
): Promise<{ status: number; body: string; retryAfter: string | null }> {
  const accept =
    "application/vnd.oci.image.index.v1+json,application/vnd.oci.image.manifest.v1+json";
  const url = `http://127.0.0.1:${sandbox.ports.registry}${path}`;
  const answer = await fetch(url, { headers: { accept, connection: "close" }, signal });
  const { status, headers } = answer;
  return { status, body: await answer.text(), retryAfter: headers.get("retry-after") };
}

/** What an attempt failed with; empty if it did not. */
async function failureOf(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
    return "";
  } catch (error) {
    if (error instanceof CommandError) return `${error.message} ${error.stderr}`;
    return error instanceof Error ? `${error.name} ${error.message} ${String(error.cause)}` : "?";
  }
}
