import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import type { Image, ImageStatus } from "#api/v1/image.ts";
import { events } from "#kube/resource.ts";
import type { Condition } from "#kube/types.ts";
import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { openRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";
import { Cluster, holds, isReady } from "#test/cluster.ts";

const report = (line: string): void => console.error(line);
const { index } = Sandbox.images;

describe("references of all kinds on a real cluster", { timeout: 20 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let cluster: Cluster;

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
    await installCoral(sandbox, { controller: { CORAL_RESOLVE_INTERVAL: "5s" }, signal });
    cluster = new Cluster(sandbox, await sandbox.connect());
  });
  after(async () => {
    await cluster.client[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });

  let variant = 40;

  /** Pushes an image that nobody has yet under a name, which may have named another one before. */
  async function serve(path: string): Promise<string> {
    const folder = await ensureSmallVariant(variant++, sandbox.programs, scope);
    const reference = `${openRegistry.host}/${path}`;
    await sandbox.push(folder, reference, scope);
    return reference;
  }

  async function wantSpec(name: string, spec: Partial<Image["spec"]>): Promise<void> {
    const metadata = { name, namespace: "default" };
    await cluster.apply({ apiVersion: "stvz.io/v1", kind: "Image", metadata, spec }, scope);
  }

  test("a tag has one digest and one size for the whole cluster, also of an index", async () => {
    await cluster.want("resolved", [index], scope);
    const status = await cluster.status(
      "resolved",
      (now) => now.ready === "2/2" && imageOf(now, index)?.digest !== undefined,
      scope,
    );
    const { digest = "", sizeBytes = 0 } = imageOf(status, index) ?? {};
    assert.match(digest, /^sha256:[0-9a-f]{64}$/);
    assert.ok(sizeBytes > 0);
    for (const { name } of sandbox.nodes) {
      const reported = (await cluster.report(name, scope))?.status?.images;
      assert.equal(reported?.find(({ reference }) => reference === index)?.digest, digest);
    }
  });

  test("a digest is pulled by itself, beside tags", async () => {
    const digest = imageOf(await cluster.status("resolved", () => true, scope), index)?.digest;
    assert.ok(digest);
    const name = index.slice(0, index.lastIndexOf(":"));
    await wantSpec("digested", {
      repositories: [
        { name, tags: [index.slice(name.length + 1)], digests: [digest], listSelection: "listed" },
      ],
    });
    const status = await cluster.status(
      "digested",
      (now) => now.ready === "2/2" && imageOf(now, `${name}@${digest}`)?.digest === digest,
      scope,
    );

    assert.equal(status.totalImages, 2);
  });

  test("all tags of a repository come that the filter lets through, and new ones as they appear", async () => {
    for (const tag of ["1.0.0", "1.1.0", "2.0.0", "edge"]) await serve(`e2e/listed:${tag}`);
    const name = `${openRegistry.host}/e2e/listed`;
    await wantSpec("all", {
      repositories: [{ name, listSelection: "all", filter: { semver: "<2", newest: 2 } }],
    });
    const first = await cluster.ready("all", 2, scope);
    assert.deepEqual(
      first.images?.map(({ reference }) => reference.slice(name.length + 1)),
      ["1.0.0", "1.1.0"],
    );
    const added = await serve("e2e/listed:1.2.0");
    const second = await cluster.status(
      "all",
      (now) => now.ready === "2/2" && imageOf(now, added)?.available === 2,
      scope,
    );
    assert.deepEqual(
      second.images?.map(({ reference }) => reference.slice(name.length + 1)),
      ["1.1.0", "1.2.0"],
    );
    await cluster.forget("all", scope);
  });

  test("a tag that moves is followed with Always, and its digest is seen to spread", async () => {
    const reference = await serve("e2e/moving:1");
    const [name = ""] = reference.split(/:1$/);
    await wantSpec("moving", {
      imagePullPolicy: "Always",
      repositories: [{ name, tags: ["1"], listSelection: "listed" }],
    });
    const isAt = (status: ImageStatus, other: string | undefined): boolean =>
      status.ready === "2/2" &&
      imageOf(status, reference)?.digest !== undefined &&
      imageOf(status, reference)?.digest !== other;
    const before = await cluster.status("moving", (now) => isAt(now, undefined), scope);
    const { digest } = imageOf(before, reference) ?? {};
    await serve("e2e/moving:1");
    const after = await cluster.status("moving", (now) => isAt(now, digest), scope);
    const { digest: moved } = imageOf(after, reference) ?? {};

    for (const { name: node } of sandbox.nodes) {
      const reported = (await cluster.report(node, scope))?.status?.images;
      assert.equal(reported?.find((image) => image.reference === reference)?.digest, moved);
    }
    await cluster.forget("moving", scope);
  });

  test("without Always a moved tag is told, not hidden: who came first keeps what it has", async () => {
    const reference = await serve("e2e/told:1");
    const [node1, node2] = sandbox.nodes;
    assert.ok(node1 && node2);
    await sandbox.kubectl(["label", "node", node1.name, "told=yes"], scope);
    const selector = [{ key: "told", operator: "Exists" }];
    await cluster.want("told", [reference], { selector, ...scope });
    const first = await cluster.status(
      "told",
      (now) => now.ready === "1/1" && imageOf(now, reference)?.digest !== undefined,
      scope,
    );
    await serve("e2e/told:1");
    await sandbox.kubectl(["label", "node", node2.name, "told=yes"], scope);
    const moved = await cluster.status(
      "told",
      (now) =>
        now.ready === "2/2" &&
        imageOf(now, reference)?.otherDigest === 1 &&
        imageOf(now, reference)?.digest !== imageOf(first, reference)?.digest,
      scope,
    );

    const condition = conditionOf(moved, "DigestsAgree");
    assert.deepEqual([condition?.status, condition?.reason], ["False", "TagMoved"]);
    assert.ok(await holds(node2, reference, scope));
    await cluster.forget("told", scope);
    await sandbox.kubectl(["label", "node", node1.name, node2.name, "told-"], scope);
  });

  test("a registry that does not answer is a condition, and keeps no Image from being Ready", async () => {
    const reference = await serve("e2e/silent:1");
    await cluster.want("silent", [reference], scope);
    await cluster.ready("silent", 2, scope);
    await cluster.forget("silent", scope);
    await sandbox.upstream.setFaults(
      [{ kind: "status", status: 503, path: "/e2e/silent/" }],
      scope,
    );
    try {
      await cluster.want("silent", [reference], scope);
      const status = await cluster.status(
        "silent",
        (now) => now.ready === "2/2" && conditionOf(now, "ReferencesResolved") !== undefined,
        scope,
      );
      assert.equal(conditionOf(status, "ReferencesResolved")?.reason, "Unreachable");
      assert.ok(isReady(status));
    } finally {
      await sandbox.upstream.setFaults([], scope);
    }
    await cluster.status(
      "silent",
      (now) =>
        imageOf(now, reference)?.digest !== undefined &&
        conditionOf(now, "ReferencesResolved") === undefined,
      scope,
    );
    await cluster.forget("silent", scope);
  });

  test("an image that cannot be pulled is a warning event in the registry's words", async () => {
    const missing = `${openRegistry.host}/e2e/missing:1`;
    await cluster.want("warned", [missing], scope);
    const warning = await waitFor(
      async () => {
        const { items } = await cluster.client.list(events, { namespace: "default", signal });
        return items.find(
          ({ regarding, reason }) => regarding?.name === "warned" && reason === "PullFailed",
        );
      },
      { what: "a warning event", everyMs: 500, timeoutMs: 90_000, signal },
    );

    assert.equal(warning.type, "Warning");
    assert.match(warning.note ?? "", /NotFound/);
    await cluster.forget("warned", scope);
  });

  test("kubectl shows READY, IMAGES, NODES, ERRORS and AGE, and waits for Ready", async () => {
    const { stdout } = await sandbox.kubectl(["get", "images", "resolved"], scope);
    const [head = "", row = ""] = stdout.split("\n");
    assert.deepEqual(head.trim().split(/\s+/), [
      "NAME",
      "READY",
      "IMAGES",
      "NODES",
      "ERRORS",
      "AGE",
    ]);
    assert.deepEqual(row.trim().split(/\s+/).slice(0, 5), ["resolved", "2/2", "1", "2", "0"]);
    await sandbox.kubectl(
      ["wait", "--for=condition=Ready", "image/resolved", "--timeout=10s"],
      scope,
    );
  });
});

type ImageState = NonNullable<ImageStatus["images"]>[number];

function conditionOf({ conditions }: ImageStatus, name: string): Condition | undefined {
  return conditions?.find(({ type }) => type === name);
}

function imageOf({ images }: ImageStatus, reference: string): ImageState | undefined {
  return images?.find((image) => image.reference === reference);
}
