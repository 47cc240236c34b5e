import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { parseAllDocuments } from "yaml";

import { runAnnotation } from "#api/v1/mirror.ts";
import { images, mirrors } from "#api/v1/resources.ts";
import type { KubeClient } from "#kube/client.ts";
import { configMaps, secrets, validatingWebhookConfigurations } from "#kube/resource.ts";
import { isJsonObject, type JsonObject } from "#json/json.ts";
import { readAuditLog } from "#sandbox/audit-log.ts";
import { CommandError } from "#sandbox/command.ts";
import { insideControlPlane } from "#sandbox/control-plane.ts";
import { controlPlaneAddress } from "#sandbox/layout.ts";
import { repositoryRoot } from "#sandbox/paths.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";

const namespace = "coral-system";
const webhookOrigin = "https://localhost:9443";

describe("admission by a real API server", { timeout: 10 * 60_000 }, () => {
  const signal = AbortSignal.timeout(25 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let client: KubeClient;
  let webhook: ChildProcess;

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 0, signal });
    client = await sandbox.connect();
    const kinds = ["images", "mirrors", "imagepolicies"].map((kind) => `crds/${kind}.yaml`);
    const manifests = ["namespace.yaml", ...kinds, "rbac.yaml"];
    const apply = manifests.flatMap((file) => ["-f", join(repositoryRoot, "deploy", file)]);
    await sandbox.kubectl(["apply", ...apply], scope);
    await applyWebhooks();
    await startWebhook();
    await waitFor(isPublished, { what: "the authority to be published", signal });
  });
  after(async () => {
    webhook.kill("SIGKILL");
    await client[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });

  /** The configuration of the manifests, with an address that is there without nodes. */
  async function applyWebhooks(): Promise<void> {
    const text = await readFile(join(repositoryRoot, "deploy/webhooks.yaml"), "utf8");
    const configuration = parseAllDocuments(text)
      .map((document): unknown => document.toJS())
      .find((object) => isJsonObject(object) && object["kind"] !== "Service");
    assert.ok(isJsonObject(configuration));
    const { webhooks = [] } = validatingWebhookConfigurations.parse(configuration);
    const local = webhooks.map((hook) => {
      const clientConfig = { url: `${webhookOrigin}/validate/${hook.name.split(".")[0]}` };
      return { ...hook, clientConfig };
    });
    const input = JSON.stringify({ ...configuration, webhooks: local });
    await sandbox.kubectl(["apply", "-f", "-"], { input, signal });
  }

  /** Serves in the API server's network, with the rights of the controller's service account. */
  async function startWebhook(): Promise<void> {
    const create = ["-n", namespace, "create", "token", "coral-controller"];
    const { stdout } = await sandbox.kubectl(create, scope);
    const { ca = "" } = await sandbox.clusterConfig();
    const file = sandbox.layout.path("webhook.kubeconfig");
    const server = `https://${controlPlaneAddress}:6443`;
    const cluster = { server, "certificate-authority-data": Buffer.from(ca).toString("base64") };
    const kubeconfig = {
      "current-context": "c",
      contexts: [{ name: "c", context: { cluster: "c", user: "c" } }],
      clusters: [{ name: "c", cluster }],
      users: [{ name: "c", user: { token: stdout.trim() } }],
    };
    await writeFile(file, JSON.stringify(kubeconfig), { mode: 0o600 });
    const program = fileURLToPath(import.meta.resolve("./serve.ts"));
    const [nsenter = "", ...argv] = insideControlPlane(sandbox.layout, [
      process.execPath,
      program,
      file,
    ]);
    webhook = spawn(nsenter, argv, { stdio: ["ignore", "ignore", "inherit"] });
  }

  async function stopWebhook(): Promise<void> {
    webhook.kill("SIGKILL");
    await once(webhook, "exit", { signal });
  }

  /** What all webhooks are to trust; nothing while they differ. */
  async function bundle(): Promise<string | undefined> {
    const key = { name: "coral-validation" };
    const found = await client.get(validatingWebhookConfigurations, key, scope);
    const bundles = new Set(found?.webhooks?.map(({ clientConfig }) => clientConfig.caBundle));
    return bundles.size === 1 ? [...bundles][0] : undefined;
  }

  async function published(): Promise<string | undefined> {
    const map = await client.get(configMaps, { namespace, name: "coral-ca" }, scope);
    const ca = map?.data?.["ca.crt"];
    return ca && Buffer.from(ca).toString("base64");
  }

  /** Whether all that are to know it know the authority of the Secret. */
  async function isPublished(): Promise<boolean> {
    const secret = await client.get(secrets, { namespace, name: "coral-tls" }, scope);
    const ca = secret?.data?.["ca.crt"];
    return ca !== undefined && ca === (await bundle()) && ca === (await published());
  }

  /** What kubectl says when it applies an object, be it let in or not. */
  async function apply(input: string): Promise<string> {
    const args = ["apply", "-f", "-"];
    try {
      const { stdout, stderr } = await sandbox.kubectl(args, { input, signal });
      return stdout + stderr;
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      return error.stderr;
    }
  }

  async function isServed(): Promise<boolean> {
    return (await apply(anImage("again", twice))).includes("is invalid") && (await isPublished());
  }

  const twice = [
    { name: "debian", tags: ["bookworm"] },
    { name: "docker.io/library/debian", tags: ["trixie", "bookworm"] },
  ];

  test("refuses what the rules cannot say, all of it at once and line by line", async () => {
    const all = {
      name: "redis",
      listSelection: "all",
      filter: { include: ["("], semver: "x.y.z", newest: 1 },
    };
    const said = await apply(anImage("bad", [...twice, all]));

    assert.match(said, /The Image "bad" is invalid/);
    assert.match(
      said,
      /spec\.repositories\[1\]\.tags\[1\]: Duplicate value: "bookworm": must not ask for docker\.io\/library\/debian:bookworm again/,
    );
    assert.match(
      said,
      /spec\.repositories\[2\]\.filter\.include\[0\]: Invalid value: "\(": must be a regular expression/,
    );
    assert.match(
      said,
      /spec\.repositories\[2\]\.filter\.semver: Invalid value: "x\.y\.z": must be a range of versions/,
    );
  });

  test("is asked after the schema and its rules: what they refuse hides what it would say", async () => {
    const said = await apply(anImage("both", [...twice, { name: "UPPER/case", tags: ["1"] }]));

    assert.match(said, /spec\.repositories\[2\]\.name/);
    assert.doesNotMatch(said, /Duplicate value/);
  });

  test("warns, and lets in", async () => {
    const said = await apply(anImage("warned", [{ name: "debian", tags: ["latest"] }]));

    assert.match(said, /image\.stvz\.io\/warned created/);
    assert.match(
      said,
      /Warning: spec\.repositories\[0\]\.tags\[0\]: "debian:latest" is moved by its owner/,
    );
  });

  test("refuses Mirrors as well, and warns of them", async () => {
    const repositories = [
      { name: "ghcr.io/a/x", tags: ["1"] },
      { name: "quay.io/b/x", tags: ["1"] },
    ];
    const tls = { plainHTTP: true };
    const bad = { repositories, destination: "{name}", schedule: "0 0 30 2 *", tls };
    const said = await apply(aMirror("bad", bad));

    assert.match(said, /The Mirror "bad" is invalid/);
    assert.match(
      said,
      /spec\.repositories\[1\]\.name: Invalid value: "quay\.io\/b\/x": must not be copied to r\.test\/x, as ghcr\.io\/a\/x is/,
    );
    assert.match(said, /spec\.schedule: Invalid value: "0 0 30 2 \*": must be due at some time/);
    const warned = await apply(aMirror("warned", { repositories, tls }));
    assert.match(warned, /mirror\.stvz\.io\/warned created/);
    assert.match(warned, /Warning: spec\.tls\.plainHTTP: /);
  });

  test("refuses ImagePolicies as well, all that is wrong with one at once, and warns of them", async () => {
    const bad = {
      mode: "Force",
      images: ["nginx", "docker.io/library/nginx"],
      namespaceSelector: { matchLabels: { "a b": "c" } },
      exempt: { namespaces: ["kube-*"] },
    };
    const said = await apply(aPolicy("bad", bad));

    assert.match(said, /The ImagePolicy "bad" is invalid/);
    assert.match(said, /spec\.images\[0\]: Invalid value: "nginx": must begin with a registry/);
    assert.match(said, /spec\.images\[1\]: Invalid value: .* must end in a tag/);
    assert.match(said, /spec\.namespaceSelector.*: Invalid value: "a b": /);
    assert.match(said, /spec\.exempt\.namespaces\[0\]: Invalid value: "kube-\*": must be the name/);
    const warned = await apply(aPolicy("warned", { mode: "Force", pullPolicy: "Never" }));
    assert.match(warned, /imagepolicy\.stvz\.io\/warned created/);
    assert.match(warned, /Warning: spec\.pullPolicy: "Never" acts as "IfNotPresent"/);
    await sandbox.kubectl(["annotate", "imagepolicy", "warned", "a=b"], scope);
    const changed = await apply(aPolicy("warned", { mode: "Force", images: ["nginx"] }));
    assert.match(changed, /spec\.images\[0\]: Invalid value/);
  });

  test("of a Mirror's metadata, looks at how a run is asked for", async () => {
    const repositories = [{ name: "debian", tags: ["12"] }];
    await apply(aMirror("run", { repositories }));
    const ask = async (run: string): Promise<string> =>
      apply(aMirror("run", { repositories }, { annotations: { [runAnnotation]: run } }));

    assert.match(await ask("now"), /configured/);
    assert.match(await ask("x".repeat(257)), /must have at most 256 characters/);
  });

  test("lets an Image be created whose name the API server makes", async () => {
    const input = anImage("", [{ name: "debian", tags: ["12"] }], { generateName: "made-" });
    const { stdout } = await sandbox.kubectl(["create", "-f", "-"], { input, signal });

    assert.match(stdout, /image\.stvz\.io\/made-.* created/);
  });

  test("lets an Image with an old fault be changed, but not be made worse", async () => {
    await sandbox.kubectl(["delete", "validatingwebhookconfiguration", "coral-validation"], scope);
    await waitFor(async () => (await apply(anImage("old", twice))).includes("created"), {
      what: "an Image with a fault to be let in",
      signal,
    });
    await applyWebhooks();
    await waitFor(isPublished, { what: "the authority to be published again", signal });
    const isAsked = async (): Promise<boolean> =>
      (await apply(anImage("probe", twice))).includes("is invalid");
    await waitFor(isAsked, { what: "the webhook to be asked again", signal });

    const [first] = twice;
    assert.match(
      await apply(anImage("old", [...twice, { name: "busybox", tags: ["1"] }])),
      /configured/,
    );
    assert.match(
      await apply(anImage("old", [...twice, { name: "library/debian", tags: ["bookworm"] }])),
      /spec\.repositories\[2\]\.tags\[0\]: Duplicate/,
    );
    assert.match(await apply(anImage("old", [first])), /configured/);
  });

  test("mends what a person does to its authority", async () => {
    const patch = JSON.stringify([{ op: "remove", path: "/webhooks/0/clientConfig/caBundle" }]);
    const args = [
      "patch",
      "validatingwebhookconfiguration",
      "coral-validation",
      "--type=json",
      "-p",
      patch,
    ];
    await sandbox.kubectl(args, scope);
    await sandbox.kubectl(["-n", namespace, "delete", "configmap", "coral-ca"], scope);
    await waitFor(isPublished, { what: "both to be mended", signal });
    const edit = JSON.stringify({ data: { "ca.crt": "mine" } });
    await sandbox.kubectl(
      ["-n", namespace, "patch", "configmap", "coral-ca", "--type=merge", "-p", edit],
      scope,
    );
    await waitFor(isPublished, { what: "the edit to be mended", signal });
  });

  test("makes its certificates anew when their Secret is deleted or spoiled", async () => {
    const before = await bundle();
    await sandbox.kubectl(["-n", namespace, "delete", "secret", "coral-tls"], scope);
    await waitFor(async () => (await bundle()) !== before && (await isServed()), {
      what: "another certificate to be served",
      timeoutMs: 60_000,
      signal,
    });
    const spoil = JSON.stringify({ data: { "tls.key": "Z2FyYmFnZQ==" } });
    await sandbox.kubectl(
      ["-n", namespace, "patch", "secret", "coral-tls", "--type=merge", "-p", spoil],
      scope,
    );
    await waitFor(
      async () => {
        const secret = await client.get(secrets, { namespace, name: "coral-tls" }, scope);
        return secret?.data?.["tls.key"] !== "Z2FyYmFnZQ==" && (await isServed());
      },
      { what: "the spoiled key to be replaced", timeoutMs: 60_000, signal },
    );
  });

  test("while nobody serves: Images and Mirrors go, and their status and metadata change; none comes", async () => {
    await apply(anImage("orphan", [{ name: "debian", tags: ["12"] }]));
    const asked = { repositories: [{ name: "debian", tags: ["12"] }] };
    await apply(aMirror("orphan", asked));
    await stopWebhook();
    const merge = { type: "merge", signal } as const;
    const key = { namespace: "default", name: "orphan" };
    const counts = { available: 0, pending: 0, error: 0, unknown: 0 };
    const status = { observedGeneration: 1, totalNodes: 0, totalImages: 1, condition: counts };

    assert.match(
      await apply(anImage("new", [{ name: "debian", tags: ["12"] }])),
      /failed calling webhook/,
    );
    await client.patch(images, key, { ...merge, body: { status }, subresource: "status" });
    await client.patch(images, key, {
      ...merge,
      body: { metadata: { finalizers: ["example.com/f"] } },
    });
    assert.ok(await client.delete(images, key, scope));
    await client.patch(images, key, { ...merge, body: { metadata: { finalizers: null } } });
    assert.equal(await client.get(images, key, scope), undefined);
    const annotations = { [runAnnotation]: "now" };
    assert.match(await apply(aMirror("orphan", asked, { annotations })), /configured/);
    assert.match(await apply(aMirror("new", asked)), /failed calling webhook/);
    assert.ok(await client.delete(mirrors, key, scope));
  });

  test("all of it with the rights in deploy/rbac.yaml", async () => {
    const requests = await readAuditLog(sandbox.layout.auditLog);
    const ours = requests.filter(({ user }) => user.endsWith(":coral-controller"));

    assert.ok(ours.length > 0);
    assert.deepEqual(
      ours.filter(({ code }) => code === 403),
      [],
    );
  });
});

function anImage(name: string, repositories: unknown, more?: JsonObject): string {
  return anObject("Image", name, { repositories }, more);
}

function aMirror(name: string, spec: JsonObject, more?: JsonObject): string {
  return anObject("Mirror", name, { registry: "r.test", ...spec }, more);
}

function aPolicy(name: string, spec: JsonObject): string {
  return anObject("ImagePolicy", name, spec, { namespace: undefined });
}

function anObject(kind: string, name: string, spec: JsonObject, more: JsonObject = {}): string {
  const metadata = { name, namespace: "default", ...more };
  return JSON.stringify({ apiVersion: "stvz.io/v1", kind, metadata, spec });
}
