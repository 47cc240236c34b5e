import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";

import { imageLabel } from "#api/v1/labels.ts";
import { imagePlans, imagePolicies, images } from "#api/v1/resources.ts";
import { isJsonObject, parseJson } from "#json/json.ts";
import { namespaces, nodes, pods } from "#kube/resource.ts";
import { FakeApiServer, type SeenRequest } from "#test/fake-api-server.ts";

const nginx = "docker.io/library/nginx:1.29";

type Folder = Awaited<ReturnType<typeof mkdtempDisposable>>;

/** A user with a kubeconfig, and a cluster: two nodes of three hold nginx. */
class User implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly #folder: Folder;

  private constructor(server: FakeApiServer, folder: Folder) {
    this.server = server;
    this.#folder = folder;
  }

  static async make(): Promise<User> {
    const resources = [images, imagePlans, imagePolicies, namespaces];
    const server = await FakeApiServer.start({ resources });
    const user = new User(server, await mkdtempDisposable(join(tmpdir(), "coral-user-")));
    server.create(namespaces, { metadata: { name: "shop", labels: { team: "shop" } } });
    for (const [name, state] of [
      ["node1", "available"],
      ["node2", "available"],
      ["node3", "pending"],
    ] as const) {
      server.create(nodes, { metadata: { name, labels: { [imageLabel(nginx)]: state } } });
      const conditions = [{ type: "Ready", status: "True" }];
      server.merge(nodes, name, { status: { conditions } });
    }
    server.create(imagePlans, {
      metadata: { name: "web", namespace: "shop" },
      spec: { selector: [], priority: 0, images: [{ reference: nginx }] },
    });
    const config = {
      "current-context": "here",
      contexts: [{ name: "here", context: { cluster: "c", user: "u", namespace: "shop" } }],
      clusters: [{ name: "c", cluster: { server: server.config.server.href } }],
      users: [{ name: "u", user: {} }],
    };
    await writeFile(user.#path("config"), JSON.stringify(config));
    return user;
  }

  /** Makes a policy, as the API server stores it. */
  setPolicy(name: string, spec: object): void {
    this.server.create(imagePolicies, {
      metadata: { name },
      spec: {
        priority: 0,
        mode: "Force",
        pullPolicy: "Unchanged",
        nodes: "None",
        minNodes: 2,
        admit: "Any",
        enforcement: "Enforce",
        ...spec,
      },
    });
  }

  async run(
    args: readonly string[],
    stdin = "",
  ): Promise<{ exitCode: number | null; stdout: string; stderr: string }> {
    const main = join(import.meta.dirname, "main.ts");
    const child = spawn(process.execPath, [main, "explain", ...args], {
      env: { KUBECONFIG: this.#path("config") },
    });
    child.stdin.on("error", () => {}); // It may end without reading.
    child.stdin.end(stdin);
    const [stdout, stderr] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, "close"),
    ]);
    return { exitCode: child.exitCode, stdout, stderr };
  }

  #path(name: string): string {
    return join(this.#folder.path, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    await this.#folder.remove();
  }
}

function podYaml(image: string): string {
  return `{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web, image: "${image}"}]}}`;
}

function rightOf({ method, path }: SeenRequest): string {
  const [, plural, name] =
    /\/v1(?:\/namespaces\/[^/]+(?=\/))?\/([^/]+)(?:\/(.*))?$/.exec(path) ?? [];
  if (method === "POST") return `create ${plural}`;
  return `${name === undefined ? "list" : "get"} ${plural}`;
}

describe("coral explain pod", () => {
  test("explains itself, with examples and exit codes", async () => {
    await using user = await User.make();
    const { exitCode, stdout, stderr } = await user.run(["pod", "--help"]);

    assert.equal(exitCode, 0, stderr);
    assert.match(stdout, /^Usage: coral explain pod \[options\] \[name\]$/m);
    assert.match(stdout, /^Exit codes: 0 the pod is let in/m);
  });

  test("ends with 2 without a pod, and with a pod that is not there", async () => {
    await using user = await User.make();
    const none = await user.run(["pod"]);
    assert.equal(none.exitCode, 2);
    assert.match(none.stderr, /^error: say either the name of a pod, or "-f FILE", and not both$/m);

    const gone = await user.run(["pod", "gone"]);
    assert.equal(gone.exitCode, 2);
    assert.match(gone.stderr, /^There is no pod "gone" in the namespace "shop"$/m);
  });

  test("says of a pod of the cluster where its image is, and what would be changed", async () => {
    await using user = await User.make();
    user.setPolicy("shop", { pullPolicy: "Never", nodes: "Required" });
    user.server.create(pods, {
      metadata: {
        name: "web-1",
        namespace: "shop",
        ownerReferences: [
          { apiVersion: "apps/v1", kind: "ReplicaSet", name: "web", uid: "u", controller: true },
        ],
      },
      spec: {
        nodeName: "node3",
        containers: [{ name: "web", image: "nginx:1.29", imagePullPolicy: "IfNotPresent" }],
      },
    });
    user.server.merge(pods, "shop/web-1", { status: { phase: "Running" } });
    const { exitCode, stdout, stderr } = await user.run(["pod", "web-1"]);

    assert.equal(exitCode, 0, stderr);
    assert.match(stdout, /^Pod shop\/web-1, made by .*:replicaset-controller$/m);
    assert.match(stdout, /^ {2}is on {7}2 of 3 nodes: node1, node2; still to come on node3$/m);
    assert.match(stdout, /^ {2}decided by {2}ImagePolicy "shop"$/m);
    assert.match(stdout, /^ {2}change {6}imagePullPolicy: IfNotPresent becomes Never$/m);
  });

  test("asks for no more rights than docs/admission.md says", async () => {
    await using user = await User.make();
    await user.run(["pod", "web-1"]);
    user.server.create(pods, { metadata: { name: "web-1", namespace: "shop" }, spec: {} });
    await user.run(["pod", "web-1"]);
    const page = await readFile(join(import.meta.dirname, "../../docs/admission.md"), "utf8");
    const role = page.split("```yaml\n").find((text) => text.includes("kind: ClusterRole")) ?? "";

    const asked = new Set(user.server.requests.map(rightOf));
    asked.delete("create selfsubjectreviews"); // Everybody who is known may ask who they are.
    const granted = [...role.matchAll(/resources: \[(.*)\], verbs: \[(.*)\]/g)].flatMap(
      ([, kinds = "", verbs = ""]) =>
        kinds.split(", ").flatMap((kind) => verbs.split(", ").map((verb) => `${verb} ${kind}`)),
    );
    assert.deepEqual([...asked].toSorted(), granted.toSorted());
  });

  test("ends with 1 if a pod of a file would be refused, also for programs", async () => {
    await using user = await User.make();
    user.setPolicy("strict", { admit: "OnlyAvailable" });
    const { exitCode, stdout, stderr } = await user.run(
      ["pod", "-f", "-", "-o", "json"],
      podYaml("busybox:1"),
    );

    assert.equal(exitCode, 1, stderr);
    const report = parseJson(stdout);
    assert.ok(isJsonObject(report) && Array.isArray(report["pods"]));
    const [pod]: unknown[] = report["pods"];
    assert.ok(isJsonObject(pod));
    assert.equal(pod["verdict"], "refused");
    assert.match(String(pod["refusals"]), /docker\.io\/library\/busybox:1/);
  });

  test("leaves alone whom a policy exempts, as --created-by says", async () => {
    await using user = await User.make();
    user.setPolicy("strict", { admit: "OnlyAvailable", exempt: { users: ["builder"] } });
    const { exitCode, stdout } = await user.run(
      ["pod", "-f", "-", "--created-by", "builder"],
      podYaml("busybox:1"),
    );

    assert.equal(exitCode, 0);
    assert.match(stdout, /^Pod shop\/web, made by builder$/m);
    assert.match(stdout, /^ {2}policy {6}strict: not for this namespace, or who makes the pod$/m);
  });

  test("ends with 2 if the cluster cannot be read, and says what it takes", async () => {
    await using user = await User.make();
    user.server.fail({ status: 403, matching: ({ path }) => path.endsWith("/imagepolicies") });
    const { exitCode, stdout, stderr } = await user.run(["pod", "-f", "-"], podYaml("nginx"));

    assert.equal(exitCode, 2);
    assert.equal(stdout, "");
    assert.match(stderr, /^Cannot GET "\/apis\/stvz\.io\/v1\/imagepolicies": 403/m);
    assert.match(stderr, /^docs\/admission\.md, "Explain", lists the rights that it takes$/m);
  });
});
