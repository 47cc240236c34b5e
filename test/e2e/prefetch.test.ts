import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { parseAllDocuments } from "yaml";

import { imageLabel } from "#api/v1/labels.ts";
import { readAuditLog, type AuditedRequest } from "#sandbox/audit-log.ts";
import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { repositoryRoot } from "#sandbox/paths.ts";
import { openRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import type { SandboxNode } from "#sandbox/sandbox-node.ts";
import { waitFor } from "#sandbox/wait.ts";
import { referenceLabel } from "#oci/reference.ts";
import { Cluster, holds, isReady, outage } from "#test/cluster.ts";

const report = (line: string): void => console.error(line);
const { small, large, index } = Sandbox.images;
const blobs = { path: "/blobs/" };

describe("prefetching on a real cluster", { timeout: 20 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let cluster: Cluster;

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 3, report, signal });
    await installCoral(sandbox, scope);
    cluster = new Cluster(sandbox, await sandbox.connect());
  });
  after(async () => {
    await cluster.client[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });

  let variant = 10;

  /** Serves an image of which no node has any layer yet. */
  async function serve(name: string): Promise<string> {
    const folder = await ensureSmallVariant(variant++, sandbox.programs, scope);
    const reference = `${openRegistry.host}/e2e/${name}:1`;
    await sandbox.push(folder, reference, scope);
    return reference;
  }

  test("three images arrive on three nodes, with reports, labels and the right counts", async () => {
    const wanted = [small, index, large];
    await cluster.want("three", wanted, scope);
    const status = await cluster.ready("three", 3, scope);

    assert.deepEqual(status.condition, { available: 3, pending: 0, error: 0, unknown: 0 });
    assert.equal(status.totalImages, 3);
    assert.deepEqual(
      status.images?.map(({ reference, label, available }) => ({ reference, label, available })),
      wanted.toSorted().map((reference) => ({
        reference,
        label: referenceLabel(reference),
        available: 3,
      })),
    );
    for (const node of sandbox.nodes) {
      const { status: reported } = (await cluster.report(node.name, scope)) ?? {};
      assert.deepEqual(
        reported?.images.map(({ reference, state }) => [reference, state]),
        wanted.toSorted().map((reference) => [reference, "available"]),
      );
      for (const reference of wanted) assert.ok(await holds(node, reference, scope));
    }
    const labels = Object.fromEntries(wanted.map((name) => [referenceLabel(name), "available"]));
    for (const { name } of sandbox.nodes) await labelsBecome(name, labels);
  });

  test("a selector takes two of three nodes", async () => {
    const reference = await serve("selected");
    await sandbox.kubectl(["label", "node", "node1", "node2", "disk=fast"], scope);
    const selector = [{ key: "disk", operator: "In", values: ["fast"] }];
    await cluster.want("selected", [reference], { selector, ...scope });
    await cluster.ready("selected", 2, scope);

    const held = await Promise.all(sandbox.nodes.map((node) => holds(node, reference, scope)));
    assert.deepEqual(held, [true, true, false]);

    await sandbox.kubectl(["label", "node", "node3", "disk=fast"], scope);
    await cluster.ready("selected", 3, scope);
    await sandbox.kubectl(["label", "node", "node1", "node2", "node3", "disk-"], scope);
    const nobody = await cluster.status("selected", ({ totalNodes }) => totalNodes === 0, scope);
    assert.equal(isReady(nobody), false, "a selector that matches no node is not Ready");
    await cluster.forget("selected", scope);
  });

  test("a fourth node joins and is filled", async () => {
    const node = await sandbox.addNode(scope);
    await cluster.status(
      "three",
      ({ totalNodes, condition }) => totalNodes === 4 && condition.available === 4,
      scope,
    );

    assert.ok(await holds(node, large, scope));
    await sandbox.removeNode(node.name, scope);
    await cluster.ready("three", 3, scope);
    const gone = async (): Promise<boolean> => !(await cluster.report(node.name, scope));
    await waitFor(gone, { what: "the report of the removed node to go", signal });
  });

  test("an image removed with crictl comes back", async () => {
    const node = sandbox.node("node2");
    await node.crictl(["rmi", index], scope);
    assert.equal(await holds(node, index, scope), false);

    const isBack = (): Promise<boolean> => holds(node, index, scope);
    await waitFor(isBack, { what: "the image to come back", everyMs: 500, signal });
    await cluster.ready("three", 3, scope);
  });

  test("an agent that is killed in mid-pull finishes after its restart", async () => {
    const reference = await serve("killed");
    const node = sandbox.node("node1");
    await slowly(async () => {
      const selector = [{ key: "kubernetes.io/hostname", operator: "In", values: [node.name] }];
      await cluster.want("killed", [reference], { selector, ...scope });
      await pulling(reference);
      await cluster.killAgent(node, scope);
      assert.equal(await holds(node, reference, scope), false, "it was killed in mid-pull");
    });

    await cluster.ready("killed", 1, scope);
    assert.ok(await holds(node, reference, scope));
    await cluster.forget("killed", scope);
  });

  test("an API server that is down for 20 s in mid-pull costs nothing but the wait", async () => {
    const reference = await serve("outage");
    await slowly(async () => {
      await cluster.want("outage", [reference], scope);
      await pulling(reference);
      await sandbox.kill("kube-apiserver", scope);
    });
    await outage(20, scope);
    await sandbox.start("kube-apiserver", scope);
    for (const node of sandbox.nodes) {
      await waitFor(() => holds(node, reference, scope), { what: "the pull to end", signal });
    }

    await cluster.ready("outage", 3, { timeoutMs: 30_000, ...scope });
    await cluster.forget("outage", scope);
  });

  test("a node that was cut off is unknown once Kubernetes has lost it, and catches up", async () => {
    const reference = await serve("cut");
    const node = sandbox.node("node3");
    await node.cutLink(scope);
    try {
      await cluster.want("cut", [reference], scope);
      await cluster.status(
        "cut",
        ({ condition }) => condition.available === 2 && condition.unknown === 1,
        { timeoutMs: 120_000, signal },
      );
    } finally {
      await node.restoreLink(scope);
    }

    await cluster.ready("cut", 3, scope);
    await cluster.forget("cut", scope);
  });

  test("a name that cannot exist delays no other image, and is told as an error", async () => {
    const nowhere = `${openRegistry.host}/e2e/nowhere:1`;
    const unreachable = `nobody.test:5000/e2e/nothing:1`;
    const good = await serve("good");
    await cluster.want("bad", [nowhere, unreachable], scope);
    await cluster.want("good", [good], scope);
    await cluster.ready("good", 3, scope);
    const bad = await cluster.status(
      "bad",
      ({ images }) => images?.some(({ lastError }) => lastError !== undefined) ?? false,
      scope,
    );

    assert.equal(isReady(bad), false);
    assert.equal(bad.condition.available, 0);
    const lastError = bad.images?.find(({ reference }) => reference === nowhere)?.lastError;
    assert.equal(lastError?.reason, "NotFound");
    await cluster.forget("bad", scope);
    await cluster.forget("good", scope);
  });

  test("names that hang, more than there are slots, delay no image of another namespace", async () => {
    const good = await serve("beside");
    const tags = ["1", "2", "3", "4", "5", "6"];
    await sandbox.upstream.setFaults([{ kind: "silence", path: "^/v2/e2e/hanging/" }], scope);
    const hanging = {
      apiVersion: "stvz.io/v1",
      kind: "Image",
      metadata: { name: "hanging", namespace: "kube-public" },
      spec: { priority: 1000, repositories: [{ name: `${openRegistry.host}/e2e/hanging`, tags }] },
    };
    await cluster.apply(hanging, scope);
    await waitFor(
      async () => {
        const requests = await sandbox.upstream.requests(scope);
        return requests.filter(({ fault }) => fault === "silence").length >= 9;
      },
      { what: "three pulls on each of three nodes to hang", signal },
    );
    await cluster.want("beside", [good], scope);
    await cluster.ready("beside", 3, scope);
    await sandbox.kubectl(["-n", "kube-public", "delete", "image.stvz.io", "hanging"], scope);
    await sandbox.upstream.setFaults([], scope);
    await cluster.forget("beside", scope);
  });

  test("no more nodes pull at once than maxConcurrentNodes, and a slot of the dead becomes free", async () => {
    const reference = await serve("gently");
    await slowly(async () => {
      await cluster.want("gently", [reference], { maxConcurrentNodes: 1, ...scope });
      await pulling(reference);
      await outage(5, scope); // Time for the others to break the rule.
      const [holder, ...others] = await pullers(reference);
      assert.ok(holder);
      assert.deepEqual(others, []);
      await cluster.status(
        "gently",
        ({ condition }) => condition.pending === 3 && condition.error === 0,
        scope,
      );
      await holder.kill("kubelet", scope); // Else it would start the agent again.
      await cluster.killAgent(holder, scope);
      await sandbox.upstream.forgetRequests(scope);
      await waitFor(async () => (await pullers(reference)).some((node) => node !== holder), {
        what: "another node to pull",
        timeoutMs: 60_000,
        signal,
      });
      await holder.start("kubelet", scope);
    });
    await cluster.ready("gently", 3, scope);
    await cluster.forget("gently", scope);
  });

  test("a malformed name is refused with its field, its value and what was expected", async () => {
    const image = {
      apiVersion: "stvz.io/v1",
      kind: "Image",
      metadata: { name: "malformed", namespace: "default" },
      spec: { repositories: [{ name: "UPPER/case", tags: ["ok"] }] },
    };
    const refusal = await cluster.apply(image, scope).then(
      () => "accepted",
      (error: unknown) => String(error),
    );

    assert.match(refusal, /spec\.repositories\[0\]\.name/);
    assert.match(refusal, /UPPER\/case/);
    assert.match(refusal, /must be an image name like/);
  });

  test("a dropped tag, and then the Image, take labels and reports along; the bits stay", async () => {
    await cluster.want("three", [small, large], scope);
    const left = { [referenceLabel(small)]: "available", [referenceLabel(large)]: "available" };
    for (const { name } of sandbox.nodes) await labelsBecome(name, left);
    await reportsBecome([small, large].toSorted());
    await cluster.forget("three", scope);
    for (const { name } of sandbox.nodes) await labelsBecome(name, {});
    await reportsBecome([]);

    for (const node of sandbox.nodes) {
      assert.deepEqual(
        await Promise.all([small, large, index].map((name) => holds(node, name, scope))),
        [true, true, true],
      );
    }
  });

  test("a label of somebody else that looks like Coral's is left alone", async () => {
    const foreign = { "image.stvz.io/mine": "1", "image.stvz.io-team/x": "2" };
    const set = Object.entries(foreign).map(([key, value]) => `${key}=${value}`);
    await sandbox.kubectl(["label", "node", "node1", ...set], scope);
    const reference = await serve("foreign");
    await cluster.want("foreign", [reference], scope);
    await cluster.ready("foreign", 3, scope);
    await cluster.forget("foreign", scope);
    await labelsBecome("node1", { mine: "1" });

    const node = await sandbox.kubectl(["get", "node", "node1", "-o", "json"], scope);
    assert.match(node.stdout, /"image\.stvz\.io-team\/x": "2"/);
    assert.doesNotMatch(node.stdout, new RegExp(imageLabel(reference)));
    await sandbox.kubectl(
      ["label", "node", "node1", "image.stvz.io/mine-", "image.stvz.io-team/x-"],
      scope,
    );
  });

  test("a steady cluster costs the API server nothing but the leases", async () => {
    await cluster.want("steady", [small], scope);
    await cluster.ready("steady", 3, scope);
    // Labels and reports are written up to a few seconds later.
    const isQuiet = async (): Promise<boolean> =>
      (await requestsSince(Date.now() - 10_000)).length === 0;
    await waitFor(isQuiet, { what: "a quiet time", timeoutMs: 120_000, everyMs: 1_000, signal });
    const start = Date.now();
    await outage(30, scope);
    const idle = await requestsSince(start);

    // A watch may come to its end in this time, after 30 to 60 minutes, and be taken up again.
    assert.ok(idle.length <= 1, JSON.stringify(idle));
    assert.deepEqual(
      idle.filter(({ verb }) => verb !== "watch"),
      [],
    );
    await cluster.forget("steady", scope);
  });

  test("every right in deploy/rbac.yaml was used, and no request was refused for want of one", async () => {
    // Granted for moments that these tests do not have.
    const rare = new Set([
      "coral-agent patch nodereports", // A Node that was made anew gets its report anew.
      "coral-controller update images/finalizers", // An API server that checks rights on owners.
      "coral-controller update secrets", // Certificates that come to their end.
      "coral-controller patch configmaps", // An authority that comes to its end.
      "coral-controller patch events", // What happens again and again.
      "coral-controller create tokenreviews", // Private images: see credentials.test.ts.
      "coral-agent get configmaps", // The same.
      "coral-controller delete imageplans", // The garbage collector may be first.
      "coral-controller get pods", // An agent that asks a replica for a slot that does not lead.
      "coral-controller update imagepolicies/status", // There are none: see pods.test.ts.
      // Mirrors, of which there are none here: see mirrors.test.ts.
      "coral-controller update mirrors/status",
      "coral-controller create mirrorshards",
      "coral-controller patch mirrorshards",
      "coral-controller delete mirrorshards",
      "coral-mirror get mirrorshards", // Somebody else wrote in the middle of a run.
      "coral-mirror update mirrorshards/status",
      "coral-mirror list secrets",
      "coral-mirror watch secrets",
      "coral-mirror delete leases", // Of a worker that ends, or has been dead for long.
      "coral-mirror create registrybudgets", // Registries that tell of limits.
      "coral-mirror update registrybudgets",
      "coral-mirror delete registrybudgets",
      // The same: who refers to copies that may be removed.
      "coral-controller list podtemplates",
      "coral-controller watch podtemplates",
      "coral-controller list replicationcontrollers",
      "coral-controller watch replicationcontrollers",
      "coral-controller list deployments",
      "coral-controller watch deployments",
      "coral-controller list replicasets",
      "coral-controller watch replicasets",
      "coral-controller list statefulsets",
      "coral-controller watch statefulsets",
      "coral-controller list daemonsets",
      "coral-controller watch daemonsets",
      "coral-controller list controllerrevisions",
      "coral-controller watch controllerrevisions",
      "coral-controller list jobs",
      "coral-controller watch jobs",
      "coral-controller list cronjobs",
      "coral-controller watch cronjobs",
    ]);
    const requests = await readAuditLog(sandbox.layout.auditLog);
    const used = new Set(requests.map(rightOf));
    const rules = await readFile(join(repositoryRoot, "deploy/rbac.yaml"), "utf8");
    // Informers list only where the API server cannot send what is there by watch (before 1.34).
    const isUsed = (right: string): boolean => used.has(right.replace(" list ", " watch "));
    const unused = rightsOf(rules).filter((right) => !rare.has(right) && !isUsed(right));

    assert.deepEqual(unused, []);
    // An API server that has just started refuses until it knows the roles; nothing is refused always.
    const granted = new Set(requests.filter(({ code }) => code < 400).map(rightOf));
    const refused = requests.filter(({ code }) => code === 403).map(rightOf);
    assert.deepEqual(
      refused.filter((right) => !granted.has(right)),
      [],
    );
  });

  test("the manifests in docs/examples are accepted", async () => {
    const apply = ["apply", "--dry-run=server", "-f", join(repositoryRoot, "docs/examples")];
    assert.match((await sandbox.kubectl(apply, scope)).stdout, /created \(server dry run\)/);
  });

  /** What Coral has asked of the API server since a time, but for leases. */
  async function requestsSince(ms: number): Promise<AuditedRequest[]> {
    const requests = await readAuditLog(sandbox.layout.auditLog);
    return requests.filter(({ time, resource }) => time >= ms && resource !== "leases");
  }

  async function labelsBecome(node: string, expected: Record<string, string>): Promise<void> {
    let last: Record<string, string> = {};
    await waitFor(
      async () => {
        last = await cluster.labels(node, scope);
        assert.deepEqual(last, expected);
        return true;
      },
      { what: `the labels of ${node}`, timeoutMs: 30_000, everyMs: 200, signal },
    );
  }

  async function reportsBecome(references: readonly string[]): Promise<void> {
    for (const { name } of sandbox.nodes) {
      await waitFor(
        async () => {
          const { status } = (await cluster.report(name, scope)) ?? {};
          assert.deepEqual(
            status?.images.map(({ reference }) => reference),
            references,
          );
          return true;
        },
        { what: `the report of ${name}`, timeoutMs: 30_000, everyMs: 200, signal },
      );
    }
  }

  /** Makes layers come slowly while `work` goes on. */
  async function slowly(work: () => Promise<void>): Promise<void> {
    await sandbox.upstream.setFaults([{ kind: "slow", bytesPerSecond: 50_000, ...blobs }], scope);
    await sandbox.upstream.forgetRequests(scope);
    try {
      await work();
    } finally {
      await sandbox.upstream.setFaults([], scope);
    }
  }

  /** Waits until nodes have asked for a layer of the image. */
  async function pulling(reference: string): Promise<void> {
    await waitFor(async () => (await pullers(reference)).length > 0, {
      what: `a pull of ${reference}`,
      signal,
    });
  }

  /** The nodes that have asked for a layer of an image. */
  async function pullers(reference: string): Promise<SandboxNode[]> {
    const [, path = ""] = /^[^/]+\/(.+):[^:]+$/.exec(reference) ?? [];
    const requests = await sandbox.upstream.requests(scope);
    const blobs = requests.filter((request) => request.path.startsWith(`/v2/${path}/blobs/`));
    const from = new Set(blobs.map((request) => request.from));
    return sandbox.nodes.filter(({ layout }) => from.has(layout.address));
  }
});

/** What right a request took: `coral-agent watch nodes`. */
function rightOf({ user, verb, resource }: AuditedRequest): string {
  return `${user.split(":").at(-1)} ${verb} ${resource}`;
}

/** What the manifests allow Coral's service accounts: `coral-agent watch nodes`. */
function rightsOf(manifests: string): string[] {
  return parseAllDocuments(manifests).flatMap((document) => {
    const { metadata, rules }: RoleManifest = document.toJS();
    const isForPeople = /-(view|edit|admin)$/.test(metadata.name);
    return (isForPeople ? [] : (rules ?? [])).flatMap(({ resources, verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${metadata.name} ${verb} ${resource}`)),
    );
  });
}

interface RoleManifest {
  metadata: { name: string };
  rules?: { resources: string[]; verbs: string[] }[];
}
