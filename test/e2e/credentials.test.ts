import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import type { Image, ImageStatus } from "#api/v1/image.ts";
import { images } from "#api/v1/resources.ts";
import { events } from "#kube/resource.ts";
import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import {
  openRegistry,
  privateRegistry,
  tokenRealm,
  tokenRegistry,
  type RegistryHost,
} from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import type { RequestRecord } from "#sandbox/upstream/fault.ts";
import { waitFor } from "#sandbox/wait.ts";
import { Cluster, holds, isReady } from "#test/cluster.ts";
import { pullSecret, type SecretForm, type SecretLogin } from "#test/pull-secrets.ts";

const report = (line: string): void => console.error(line);
const [coral] = privateRegistry.logins;
const [teamA, ben] = tokenRegistry.logins;
const anna = { username: teamA.username, password: teamA.password };
const { identityToken } = teamA;

/** Of Docker Hub, which nobody here asks for anything: a login for it is a login for nowhere else. */
const hub = { username: "hub-user", password: "hub-password" };

/** Longest time in which something that an operator put right must have its effect. */
const soonMs = 40_000;

describe("credentials on a real cluster", { timeout: 20 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let cluster: Cluster;
  const all: RequestRecord[] = [];

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
    await installCoral(sandbox, scope);
    cluster = new Cluster(sandbox, await sandbox.connect());
    for (const name of ["ours", "theirs"]) {
      await sandbox.kubectl(["create", "namespace", name], scope);
    }
  });
  after(async () => {
    await cluster.client[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });
  beforeEach(async () => sandbox.upstream.forgetRequests(scope));
  afterEach(async () => {
    all.push(...(await sandbox.upstream.requests(scope)));
    await sandbox.kubectl(["delete", "images.stvz.io", "-A", "--all"], scope);
  });

  let variant = 60;

  /** Serves an image of which no node has any layer yet. */
  async function serve(registry: RegistryHost, repository: string): Promise<string> {
    const folder = await ensureSmallVariant(variant++, sandbox.programs, scope);
    const reference = `${registry.host}/${repository}:1`;
    await sandbox.push(folder, reference, scope);
    return reference;
  }

  async function secret(
    name: string,
    logins: Readonly<Record<string, SecretLogin>>,
    form: SecretForm = "dockerconfigjson",
  ): Promise<void> {
    await cluster.apply(pullSecret({ namespace: "ours", name }, logins, { form }), scope);
  }

  async function want(
    name: string,
    references: readonly string[],
    { namespace = "ours", secrets = [], node }: WantOptions,
  ): Promise<void> {
    const spec = {
      repositories: references.map((reference) => {
        const colon = reference.lastIndexOf(":");
        return { name: reference.slice(0, colon), tags: [reference.slice(colon + 1)] };
      }),
      imagePullSecrets: secrets.map((secretName) => ({ name: secretName })),
      ...(node && {
        selector: [{ key: "kubernetes.io/hostname", operator: "In", values: [node] }],
      }),
    };
    const metadata = { namespace, name };
    await cluster.apply({ apiVersion: "stvz.io/v1", kind: "Image", metadata, spec }, scope);
  }

  /** Waits until an Image is as `isRight` wants it, and returns it. */
  async function imageIs(
    name: string,
    isRight: (status: ImageStatus) => boolean,
    { namespace = "ours", timeoutMs = 90_000 } = {},
  ): Promise<Image & { status: ImageStatus }> {
    let last: Image | undefined;
    return waitFor(
      async () => {
        last = await cluster.client.get(images, { namespace, name }, scope);
        const status = last?.status;
        if (!last || !status || status.observedGeneration !== last.metadata.generation) return;
        return isRight(status) ? { ...last, status } : undefined;
      },
      {
        what: `the status of Image "${name}"`,
        everyMs: 200,
        timeoutMs,
        explain: () => JSON.stringify(last?.status, undefined, 1),
        signal,
      },
    );
  }

  /** The logins that each host has seen since the test began, without their secrets. */
  async function seenLogins(): Promise<Record<string, string[]>> {
    const requests = await sandbox.upstream.requests(scope);
    const byHost = Map.groupBy(requests, ({ host }) => host);
    const seen = [...byHost].map(([host, its]) => {
      const names = its.flatMap(({ login }) => (login ? `${login.scheme} ${login.username}` : []));
      return [host, [...new Set(names)].toSorted()];
    });
    return Object.fromEntries(seen);
  }

  test("private images of both kinds of registries are Ready on all nodes", async () => {
    const both = [
      await serve(privateRegistry, "shop/one"),
      await serve(tokenRegistry, "team-a/one"),
    ];
    const logins = { [privateRegistry.host]: coral, [tokenRegistry.host]: anna };
    await secret("both", logins);
    await want("both", both, { secrets: ["both"] });
    await imageIs("both", isReadyOn(2));

    for (const node of sandbox.nodes) {
      for (const reference of both) assert.ok(await holds(node, reference, scope));
    }
  });

  test("a login goes to its own host, and to the realm of its own host, and nowhere else", async () => {
    const references = [
      await serve(openRegistry, "shop/public"),
      await serve(privateRegistry, "shop/two"),
      await serve(tokenRegistry, "team-a/two"),
    ];
    await secret("hub", {
      "https://index.docker.io/v1/": hub,
      [privateRegistry.host]: coral,
      [tokenRegistry.host]: anna,
    });
    await want("hosts", references, { secrets: ["hub"] });
    await imageIs("hosts", isReadyOn(2));
    const seen = await seenLogins();

    assert.deepEqual(seen[openRegistry.host] ?? [], []);
    assert.deepEqual(seen[privateRegistry.host], ["basic coral"]);
    assert.deepEqual(seen[tokenRegistry.host], ["bearer undefined"]);
    assert.ok(seen[tokenRealm.host]?.every((name) => name.endsWith(" anna")));
  });

  test("a login for one host is not tried at another one that asks for a login", async () => {
    const reference = await serve(tokenRegistry, "team-a/three");
    await secret("elsewhere", {
      "https://index.docker.io/v1/": hub,
      [privateRegistry.host]: coral,
      [`${privateRegistry.host}/team-a`]: coral,
      "token.test": anna, // Another port is another registry.
    });
    await want("elsewhere", [reference], { secrets: ["elsewhere"] });
    await imageIs("elsewhere", isDenied(reference));
    const seen = await seenLogins();

    assert.deepEqual(
      seen[tokenRegistry.host]?.filter((name) => !name.startsWith("bearer")),
      [],
    );
    assert.deepEqual(seen[tokenRealm.host] ?? [], []);
  });

  test("a wrong password is an error with reason Denied; the corrected Secret alone mends it", async () => {
    const reference = await serve(privateRegistry, "shop/rotated");
    await sandbox.upstream.setLogins(privateRegistry, [{ ...coral, password: "lagoon" }]);
    try {
      await secret("rotated", { [privateRegistry.host]: coral });
      await want("rotated", [reference], { secrets: ["rotated"] });
      const wrong = await imageIs("rotated", ({ condition }) => condition.error === 2);
      const [{ lastError } = {}] = wrong.status.images ?? [];
      assert.equal(lastError?.reason, "Denied");
      assert.equal(isReady(wrong.status), false);

      await secret("rotated", { [privateRegistry.host]: { ...coral, password: "lagoon" } });
      const right = await imageIs("rotated", isReadyOn(2), { timeoutMs: soonMs });
      assert.equal(right.metadata.generation, wrong.metadata.generation);
      assert.notEqual(right.status.pullSecretsRevision, wrong.status.pullSecretsRevision);
    } finally {
      await sandbox.upstream.setLogins(privateRegistry, privateRegistry.logins);
    }
  });

  test("the realm's logins rotate in the same way", async () => {
    const reference = await serve(tokenRegistry, "team-a/rotated");
    await sandbox.upstream.setLogins(tokenRegistry, [{ ...teamA, password: "kelp" }, ben]);
    try {
      await secret("realm", { [tokenRegistry.host]: anna });
      await want("realm", [reference], { secrets: ["realm"] });
      await imageIs("realm", isDenied(reference));
      await secret("realm", { [tokenRegistry.host]: { ...anna, password: "kelp" } });
      await imageIs("realm", isReadyOn(2), { timeoutMs: soonMs });
    } finally {
      await sandbox.upstream.setLogins(tokenRegistry, tokenRegistry.logins);
    }
  });

  test("the revision in the status tells that a Secret changed, and nothing of its content", async () => {
    const reference = await serve(privateRegistry, "shop/revision");
    const revisions: string[] = [];
    for (const password of ["one", "reef", "one", "reef"]) {
      await secret("revision", { [privateRegistry.host]: { ...coral, password } });
      await want("revision", [reference], { secrets: ["revision"] });
      const { status } = await imageIs("revision", ({ pullSecretsRevision }) => {
        return pullSecretsRevision !== undefined && pullSecretsRevision !== revisions.at(-1);
      });
      revisions.push(status.pullSecretsRevision ?? "");
    }

    assert.equal(new Set(revisions).size, 4, "the same content does not give the same revision");
    const stored = await sandbox.kubectl(
      ["-n", "ours", "get", "secret", "revision", "-o", "json"],
      scope,
    );
    for (const text of textsIn(JSON.parse(stored.stdout)).flatMap((each) => [each, atob64(each)])) {
      for (const algorithm of ["md5", "sha1", "sha256"]) {
        const hash = createHash(algorithm).update(text).digest("hex");
        assert.ok(!revisions.some((revision) => hash.startsWith(revision)));
      }
    }
  });

  test("a deleted Secret is a condition and a warning event, and public images go on", async () => {
    const open = await serve(openRegistry, "shop/open");
    const closed = await serve(privateRegistry, "shop/closed");
    await secret("deleted", { [privateRegistry.host]: coral });
    await want("deleted", [open, closed], { secrets: ["deleted"] });
    await imageIs("deleted", isReadyOn(2));
    await sandbox.kubectl(["-n", "ours", "delete", "secret", "deleted"], scope);
    await imageIs("deleted", lacksSecret, { timeoutMs: soonMs });
    await waitFor(
      async () => {
        const { items } = await cluster.client.list(events, { namespace: "ours", signal });
        const about = items.filter(({ regarding }) => regarding?.name === "deleted");
        return about.some(({ type, note = "" }) => type === "Warning" && /Secret/.test(note));
      },
      { what: "a warning event about the Secret", everyMs: 500, timeoutMs: soonMs, signal },
    );

    const newOpen = await serve(openRegistry, "shop/new-open");
    const newClosed = await serve(privateRegistry, "shop/new-closed");
    await want("deleted", [open, closed, newOpen, newClosed], { secrets: ["deleted"] });
    const { status } = await imageIs(
      "deleted",
      (now) => imageOf(now, newOpen)?.available === 2 && isDenied(newClosed)(now),
    );
    assert.equal(imageOf(status, closed)?.available, 2, "what is there stays");
    assert.ok(lacksSecret(status));

    await secret("deleted", { [privateRegistry.host]: coral });
    const mended = await imageIs("deleted", isReadyOn(2), { timeoutMs: soonMs });
    assert.equal(lacksSecret(mended.status), false);
  });

  test("of several logins for a host, the one with the longest path is used", async () => {
    const references = [
      await serve(tokenRegistry, "team-a/four"),
      await serve(tokenRegistry, "team-b/four"),
    ];
    const nobody = { username: "nobody", password: "nothing" };
    await secret("prefix-a", {
      [tokenRegistry.host]: nobody,
      [`${tokenRegistry.host}/team-a`]: anna,
    });
    await secret("prefix-b", {
      [`${tokenRegistry.host}/team`]: nobody,
      [`${tokenRegistry.host}/team-b`]: ben,
    });
    await want("prefixes", references, { secrets: ["prefix-a", "prefix-b"] });
    await imageIs("prefixes", isReadyOn(2));
    const names = new Set((await seenLogins())[tokenRealm.host]?.map((name) => name.split(" ")[1]));

    assert.deepEqual(names, new Set(["anna", "ben"]), "no other login was ever sent");
  });

  test("another namespace that names the same image gets no login of this one", async () => {
    const reference = await serve(tokenRegistry, "team-a/five");
    await secret("mine", { [tokenRegistry.host]: anna });
    await want("mine", [reference], { secrets: ["mine"], node: "node1" });
    // A Secret is named in the Image's own namespace: of this name there is none in theirs.
    await want("same", [reference], { namespace: "theirs", secrets: ["mine"], node: "node2" });
    await imageIs("mine", isReadyOn(1));
    const { status } = await imageIs("same", isDenied(reference), { namespace: "theirs" });

    assert.equal(status.condition.available, 0);
    assert.equal(imageOf(status, reference)?.digest, undefined, "nor is it told what there is");
    assert.equal(await holds(sandbox.node("node2"), reference, scope), false);
    const requests = await sandbox.upstream.requests(scope);
    const fromNode2 = requests.filter(({ from }) => from === sandbox.node("node2").layout.address);
    assert.ok(fromNode2.some(({ host }) => host === tokenRegistry.host));
    assert.deepEqual(
      fromNode2.filter(({ login }) => login?.username === anna.username),
      [],
    );
  });

  test("wrong logins of another namespace for the same image keep no right one waiting", async () => {
    const reference = await serve(tokenRegistry, "team-a/seven");
    const place = `${tokenRegistry.host}/team-a/seven`; // More fitting than the right one.
    const names = Array.from({ length: 12 }, (_, index) => `wrong-${index}`);
    for (const name of names) {
      const wrong = { [place]: { username: name, password: "nothing" } };
      await cluster.apply(pullSecret({ namespace: "theirs", name }, wrong), scope);
    }
    await want("wrong", [reference], { namespace: "theirs", secrets: names });
    await imageIs("wrong", isDenied(reference), { namespace: "theirs" });
    await sandbox.upstream.forgetRequests(scope);
    await secret("right", { [tokenRegistry.host]: anna });
    await want("right", [reference], { secrets: ["right"] });
    await imageIs("right", isReadyOn(2), { timeoutMs: soonMs });
    await imageIs("wrong", isReadyOn(2), { namespace: "theirs" }); // It is on the nodes, for all.
  });

  test("a Secret of the older form and one with an identity token work as well", async () => {
    const references = [
      await serve(privateRegistry, "shop/six"),
      await serve(tokenRegistry, "team-a/six"),
    ];
    await secret("older", { [`http://${privateRegistry.host}`]: coral }, "dockercfg");
    await secret("identity", { [tokenRegistry.host]: { identityToken } });
    await want("forms", references, { secrets: ["older", "identity"] });
    await imageIs("forms", isReadyOn(2));

    assert.deepEqual((await seenLogins())[tokenRealm.host], ["refresh_token undefined"]);
  });

  test("no password stands in a log, an event or an object of Coral, or went to a foreign host", async () => {
    const kinds = "images.stvz.io,imageplans.stvz.io,nodereports.stvz.io,events,configmaps";
    const objects = await sandbox.kubectl(["get", kinds, "-A", "-o", "json"], scope);
    const pods = await sandbox.kubectl(["-n", "coral-system", "get", "pods", "-o", "name"], scope);
    const texts = [objects.stdout];
    for (const pod of pods.stdout.trim().split("\n")) {
      texts.push((await sandbox.kubectl(["-n", "coral-system", "logs", pod], scope)).stdout);
    }
    const secrets: Record<string, readonly string[]> = {
      [privateRegistry.host]: [coral.password, "lagoon", "one"],
      [tokenRealm.host]: [anna.password, identityToken, ben.password, "kelp", "nothing"],
      none: [hub.password],
    };
    for (const [place, words] of Object.entries(secrets)) {
      for (const word of words.filter((each) => each.length > 4)) {
        assert.ok(!texts.some((text) => text.includes(word)), `"${word}" is in a log or an object`);
      }
      const abroad = all.filter(
        ({ host, login }) => host !== place && login && words.includes(login.secret),
      );
      assert.deepEqual(abroad, []);
    }
    const auth = btoa(`${coral.username}:${coral.password}`);
    assert.ok(!texts.some((text) => text.includes(auth)));
  });
});

interface WantOptions {
  namespace?: string;
  secrets?: readonly string[];
  /** The one node that is to have them; without it all. */
  node?: string;
}

type ImageState = NonNullable<ImageStatus["images"]>[number];

function imageOf({ images: its }: ImageStatus, name: string): ImageState | undefined {
  return its?.find(({ reference }) => reference === name);
}

function isReadyOn(nodes: number): (status: ImageStatus) => boolean {
  return (status) => isReady(status) && status.totalNodes === nodes;
}

/** Whether some node was refused an image. */
function isDenied(reference: string): (status: ImageStatus) => boolean {
  return (status) => imageOf(status, reference)?.lastError?.reason === "Denied";
}

function lacksSecret({ conditions }: ImageStatus): boolean {
  return (
    conditions?.some(({ type, status }) => type === "PullSecretsFound" && status === "False") ??
    false
  );
}

/** All texts in a JSON value. */
function textsIn(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(textsIn);
}

function atob64(text: string): string {
  return Buffer.from(text, "base64").toString();
}
