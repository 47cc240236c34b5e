import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import type { ImageStatus } from "#api/v1/image.ts";
import { coralNamespace } from "#sandbox/control-plane.ts";
import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { coralReady, installCoral } from "#sandbox/install-coral.ts";
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
import { Cluster, holds } from "#test/cluster.ts";
import { anAnswer, fakeProgram, type FakeProvider } from "#test/credential-providers.ts";

const report = (line: string): void => console.error(line);

/** What the cloud's registry takes, and what its provider gives. */
const robot = { username: "cloud-robot", password: "anemone-of-the-cloud" };

/** What a provider of another cloud must never tell. */
const otherSecret = "barnacle-of-the-other-cloud";

/** The kubelet's file, with the fake under two names. */
const config = {
  apiVersion: "kubelet.config.k8s.io/v1",
  kind: "CredentialProviderConfig",
  providers: [
    aProvider("cloud", privateRegistry.host, {
      answer: anAnswer({ [privateRegistry.host]: robot }, { cacheDuration: "1h" }),
    }),
    aProvider("other-cloud", tokenRegistry.host, {
      exitCode: 7,
      stderr: `no identity: token=${otherSecret}\n`,
      answer: anAnswer({ [tokenRegistry.host]: { username: "x", password: otherSecret } }),
    }),
  ],
};

function aProvider(name: string, host: string, does: FakeProvider): unknown {
  return {
    name,
    matchImages: [host],
    defaultCacheDuration: "0s",
    apiVersion: "credentialprovider.kubelet.k8s.io/v1",
    args: [JSON.stringify(does)],
  };
}

describe("credential providers on a real cluster", { timeout: 20 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let cluster: Cluster;
  const all: RequestRecord[] = [];

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
    await installCoral(sandbox, scope);
    cluster = new Cluster(sandbox, await sandbox.connect());
    await sandbox.upstream.setLogins(privateRegistry, [robot]);
    await installProviders();
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

  /** Puts the programs and their file into the controller's pods, as docs/prefetching.md says. */
  async function installProviders(): Promise<void> {
    const program = fakeProgram("/usr/local/bin/node"); // The image has nothing else that runs.
    await cluster.apply(
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { namespace: coralNamespace, name: "providers" },
        stringData: {
          "config.json": JSON.stringify(config),
          cloud: program,
          "other-cloud": program,
        },
      },
      scope,
    );
    const volume = { name: "providers", secret: { secretName: "providers", defaultMode: 0o555 } };
    const container = {
      name: "controller",
      env: [
        { name: "CORAL_CREDENTIAL_PROVIDER_CONFIG", value: "/providers/config.json" },
        { name: "CORAL_CREDENTIAL_PROVIDER_BIN_DIR", value: "/providers" },
      ],
      volumeMounts: [{ name: "providers", mountPath: "/providers", readOnly: true }],
    };
    const patch = JSON.stringify({
      spec: { template: { spec: { volumes: [volume], containers: [container] } } },
    });
    const controller = ["-n", coralNamespace, "deploy/coral-controller"];
    await sandbox.kubectl(["patch", ...controller, "-p", patch], scope);
    const rollout = ["rollout", "status", ...controller, "--timeout=2s"];
    await waitFor(async () => (await sandbox.kubectl(rollout, scope)).exitCode === 0, {
      what: "the controller to start with providers",
      timeoutMs: 120_000,
      everyMs: 500,
      explain: async () => (await logs()).map((log) => log.slice(-2_000)).join("\n"),
      signal,
    });
    await coralReady(sandbox, scope);
  }

  let variant = 90;

  /** Serves an image of which no node has any layer yet. */
  async function serve(registry: RegistryHost, repository: string): Promise<string> {
    const folder = await ensureSmallVariant(variant++, sandbox.programs, scope);
    const reference = `${registry.host}/${repository}:1`;
    await sandbox.push(folder, reference, scope);
    return reference;
  }

  /** The texts of everything that Coral shows: logs, objects, events. */
  async function shownTexts(): Promise<string[]> {
    const kinds = "images.stvz.io,imageplans.stvz.io,nodereports.stvz.io,events,configmaps,nodes";
    const objects = await sandbox.kubectl(["get", kinds, "-A", "-o", "json"], scope);
    return [objects.stdout, ...(await logs())];
  }

  async function logs(): Promise<string[]> {
    const namespace = ["-n", coralNamespace];
    const pods = await sandbox.kubectl([...namespace, "get", "pods", "-o", "name"], scope);
    const names = pods.stdout.trim().split("\n");
    return Promise.all(
      names.map(async (pod) => (await sandbox.kubectl([...namespace, "logs", pod], scope)).stdout),
    );
  }

  test("a private image is Ready on all nodes without a Secret, and its login goes nowhere else", async () => {
    const references = [
      await serve(privateRegistry, "cloud/one"),
      await serve(openRegistry, "cloud/one"),
    ];
    await cluster.want("cloud", references, scope);
    const { images } = await cluster.ready("cloud", 2, scope);

    for (const node of sandbox.nodes) {
      for (const reference of references) assert.ok(await holds(node, reference, scope));
    }
    assert.ok(
      images?.every(({ digest }) => digest !== undefined),
      "the controller has asked, too",
    );
    const requests = await sandbox.upstream.requests(scope);
    const seen = Map.groupBy(
      requests.filter(({ login }) => login !== undefined),
      ({ host }) => host,
    );
    assert.deepEqual([...seen.keys()], [privateRegistry.host]);
    const names = seen.get(privateRegistry.host)?.map(({ login }) => login?.username);
    assert.deepEqual(new Set(names), new Set([robot.username]));
  });

  test("all tags of a private repository are found without a Secret", async () => {
    const reference = await serve(privateRegistry, "cloud/tags");
    const name = reference.replace(/:1$/, "");
    await cluster.apply(
      {
        apiVersion: "stvz.io/v1",
        kind: "Image",
        metadata: { namespace: "default", name: "tags" },
        spec: { repositories: [{ name, listSelection: "all", filter: { newest: 1 } }] },
      },
      scope,
    );
    const status = await cluster.ready("tags", 2, scope);

    assert.deepEqual(
      status.images?.map((image) => image.reference),
      [reference],
    );
  });

  test("a login that the registry refuses is an error with reason Denied, until it takes it", async () => {
    const reference = await serve(privateRegistry, "cloud/refused");
    await sandbox.upstream.setLogins(privateRegistry, [{ ...robot, password: "another-one" }]);
    try {
      await cluster.want("refused", [reference], scope);
      const { condition } = await cluster.status("refused", isDenied(reference), scope);
      assert.equal(condition.available, 0);
    } finally {
      await sandbox.upstream.setLogins(privateRegistry, [robot]);
    }
    await cluster.ready("refused", 2, scope);
  });

  test("a provider that fails is told of in the log, and the image is Denied", async () => {
    const reference = await serve(tokenRegistry, "team-a/failing");
    await cluster.want("failing", [reference], scope);
    await cluster.status("failing", isDenied(reference), scope);
    const line = await waitFor(
      async () =>
        (await logs())
          .flatMap((log) => log.split("\n"))
          .find((each) => each.includes("no login from a provider")),
      { what: "a line about the provider", everyMs: 500, signal },
    );

    assert.match(line, /"provider":"other-cloud","registry":"token\.test:5004"/);
    assert.match(line, /exit code 7: no identity: token=\[redacted\]/);
    const requests = await sandbox.upstream.requests(scope);
    assert.deepEqual(
      requests.filter(({ host, login }) => host === tokenRealm.host && login),
      [],
    );
  });

  test("no secret of a provider stands in a log, an event or an object of Coral, or went to a foreign host", async () => {
    const texts = await shownTexts();
    const secrets = [robot.password, otherSecret, btoa(`${robot.username}:${robot.password}`)];
    for (const secret of secrets) {
      assert.ok(!texts.some((text) => text.includes(secret)), `"${secret}" is in a log or object`);
    }
    const abroad = all.filter(
      ({ host, login }) => host !== privateRegistry.host && login?.secret === robot.password,
    );
    assert.deepEqual(abroad, []);
    assert.ok(all.some(({ login }) => login?.secret === robot.password));
  });
});

/** Whether some node was refused an image. */
function isDenied(reference: string): (status: ImageStatus) => boolean {
  return ({ images }) =>
    images?.find((image) => image.reference === reference)?.lastError?.reason === "Denied";
}
