import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import type { Image } from "#api/v1/image.ts";
import { images } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { secrets } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer, type SeenRequest } from "#test/fake-api-server.ts";
import { anImage } from "#test/kinds.ts";
import { SecretWatch, type SecretWatchOptions } from "./secret-watch.ts";

/** A server, and a watch that runs beside it. */
class Scene implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #client: KubeClient;
  readonly #running: Promise<unknown>;
  readonly server: FakeApiServer;
  readonly watch: SecretWatch;
  readonly told: string[] = [];

  private constructor(server: FakeApiServer, options: Partial<SecretWatchOptions>) {
    const { signal } = this.#stop;
    this.server = server;
    const connect = (): KubeClient =>
      new KubeClient({ config: server.config, log: silentLog, userAgent: "test" });
    this.#client = connect();
    const common = { client: this.#client, clock: systemClock, log: silentLog, random: () => 0.99 };
    const informer = new Informer({ ...common, resource: images });
    this.watch = new SecretWatch({ ...common, connect, images: informer, ...options });
    this.watch.onChange(({ namespace, name }) => void this.told.push(`${namespace}/${name}`));
    this.#running = Promise.all([informer.run(signal), this.watch.run(signal)]);
  }

  static async start(options: Partial<SecretWatchOptions> = {}): Promise<Scene> {
    return new Scene(await FakeApiServer.start({ resources: [images, secrets] }), options);
  }

  addSecret(key: string, auths: Record<string, string>, type = "dockerconfigjson"): void {
    const [namespace = "", name = ""] = key.split("/");
    this.server.create(secrets, {
      metadata: { namespace, name },
      type: `kubernetes.io/${type}`,
      data: { [`.${type}`]: dataOf(auths) },
    });
  }

  addImage(key: string, names: readonly string[]): void {
    const [namespace = "", name = ""] = key.split("/");
    this.server.create(images, anImageWith(namespace, name, names));
  }

  /** Watches of Secrets that were asked for so far. */
  get asked(): string[] {
    return this.server.requests
      .filter(isOfSecrets)
      .map(({ path, query }) => `${path.split("/").at(-2)} ${query["fieldSelector"]}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.watch[Symbol.asyncDispose]();
    this.#stop.abort(new Error("The test is over"));
    await this.#running;
    await this.#client[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

function anImageWith(namespace: string, name: string, names: readonly string[]): Image {
  const imagePullSecrets = names.map((secret) => ({ name: secret }));
  const { spec } = anImage({ imagePullSecrets });
  return { metadata: { namespace, name }, spec };
}

function dataOf(auths: Record<string, string>): string {
  const entries = Object.entries(auths).map(([place, login]) => [place, { auth: btoa(login) }]);
  return btoa(JSON.stringify({ auths: Object.fromEntries(entries) }));
}

function isOfSecrets({ path }: SeenRequest): boolean {
  return path.endsWith("/secrets");
}

async function until(what: string, look: () => boolean): Promise<void> {
  for (const end = Date.now() + 30_000; !look(); await sleep(2)) {
    assert.ok(Date.now() < end, `${what} within 30 s`);
  }
}

describe("SecretWatch", () => {
  test("knows the logins of Secrets that Images name, and reads no other", async () => {
    await using scene = await Scene.start();
    const { watch } = scene;
    scene.addSecret("team/one", { "one.test": "anna:reef" });
    scene.addSecret("team/two", { "two.test/x": "ben:kelp" });
    scene.addSecret("team/other", { "one.test": "eve:rock" });
    scene.addSecret("others/one", { "one.test": "eve:rock" });
    scene.addImage("team/a", ["one", "two"]);
    scene.addImage("team/b", ["one"]);
    await until("both", () => watch.revisionOf("team", ["one", "two"]) !== undefined);

    const entries = watch.entriesFor("team", ["two", "one"]);
    assert.deepEqual(
      entries.map(({ registry, path, login }) => ({ registry, path, login })),
      [
        { registry: "two.test", path: "x", login: { username: "ben", password: "kelp" } },
        { registry: "one.test", path: "", login: { username: "anna", password: "reef" } },
      ],
    );
    assert.deepEqual(watch.problemsOf("team", ["one", "two"]), []);
    assert.deepEqual(watch.entriesFor("others", ["one"]), []);
    assert.deepEqual(scene.asked.toSorted(), ["team metadata.name=one", "team metadata.name=two"]);
  });

  test("has another revision with every version of a Secret, and when it goes and comes", async () => {
    await using scene = await Scene.start();
    const { watch, server } = scene;
    scene.addImage("team/a", ["one"]);
    const revisions: (string | undefined)[] = [];
    const revisionIsNew = async (): Promise<void> => {
      await until("a new revision", () => {
        const now = watch.revisionOf("team", ["one"]);
        return now !== undefined && !revisions.includes(now);
      });
      revisions.push(watch.revisionOf("team", ["one"]));
    };
    await revisionIsNew();
    assert.equal(watch.problemsOf("team", ["one"])[0]?.reason, "SecretNotFound");
    scene.addSecret("team/one", { "one.test": "anna:reef" });
    await revisionIsNew();
    assert.deepEqual(watch.problemsOf("team", ["one"]), []);
    for (const auths of [{ "one.test": "anna:kelp" }, { "one.test": "anna:reef" }]) {
      server.merge(secrets, "team/one", { data: { ".dockerconfigjson": dataOf(auths) } });
      await revisionIsNew();
    }
    const missing = revisions[0];
    server.delete(secrets, "team/one");
    await until("missing again", () => watch.revisionOf("team", ["one"]) === missing);
    assert.deepEqual(watch.entriesFor("team", ["one"]), []);
    assert.ok(scene.told.every((secret) => secret === "team/one") && scene.told.length >= 5);
  });

  test("tells what is wrong with a Secret, and nothing of what it holds", async () => {
    await using scene = await Scene.start();
    const { watch, server } = scene;
    server.create(secrets, {
      metadata: { namespace: "team", name: "opaque" },
      type: "Opaque",
      data: { password: btoa("hush-hush") },
    });
    scene.addSecret("team/half", { "one.test": "anna:reef", "bad host/": "hush:hush" });
    const names = ["opaque", "half", "Not_A_Name", "x,metadata.name=opaque"];
    scene.addImage("team/a", names);
    await until("all", () => watch.revisionOf("team", names) !== undefined);
    const problems = watch.problemsOf("team", names);

    assert.deepEqual(
      problems.map(({ name, reason }) => [name, reason]),
      names.map((name) => [name, "SecretInvalid"]),
    );
    assert.ok(!JSON.stringify(problems).includes("hush"));
    assert.equal(watch.entriesFor("team", names).length, 1, "the good login is used");
    assert.equal(scene.asked.length, 2, "nothing is asked for by a name that none can have");
  });

  test("a Secret that may not be read keeps nobody waiting, until it may", async () => {
    await using scene = await Scene.start();
    const { watch, server } = scene;
    server.fail({ status: 403, times: 2, matching: isOfSecrets });
    scene.addSecret("team/one", { "one.test": "anna:reef" });
    scene.addImage("team/a", ["one"]);
    await until("told", () => watch.problemsOf("team", ["one"]).length > 0);
    assert.equal(watch.problemsOf("team", ["one"])[0]?.reason, "SecretUnreadable");
    assert.ok(watch.revisionOf("team", ["one"]));
    await until("read", () => watch.entriesFor("team", ["one"]).length === 1);
    assert.deepEqual(watch.problemsOf("team", ["one"]), []);
  });

  test("is being read until the API server has answered", async () => {
    await using scene = await Scene.start();
    const { watch, server } = scene;
    server.ignore(isOfSecrets);
    scene.addImage("team/a", ["one"]);
    await until("asked", () => scene.asked.length > 0);
    assert.equal(watch.revisionOf("team", ["one"]), undefined);
    assert.deepEqual(watch.problemsOf("team", ["one"]), []);
    assert.equal(watch.revisionOf("team", ["not-named-yet"]), undefined);
  });

  test("lets a Secret go with the last Image that names it", async () => {
    await using scene = await Scene.start();
    const { watch, server } = scene;
    scene.addSecret("team/one", { "one.test": "anna:reef" });
    scene.addImage("team/a", ["one"]);
    scene.addImage("team/b", ["one"]);
    await until("watched", () => watch.entriesFor("team", ["one"]).length === 1);
    assert.equal(server.watching, 2);
    server.delete(images, "team/a");
    server.merge(images, "team/b", { spec: { imagePullSecrets: [] } });
    await until("let go", () => server.watching === 1);
    assert.deepEqual(watch.entriesFor("team", ["one"]), []);
  });

  test("watches no more than it may, of one namespace too, and fills places that become free", async () => {
    await using scene = await Scene.start({ maxSecrets: 3, maxPerNamespace: 2 });
    const { watch, server } = scene;
    scene.addImage("greedy/a", ["one", "three", "two"]);
    scene.addImage("team/a", ["one"]);
    const reasons = (namespace: string, names: readonly string[]): string[] =>
      watch.problemsOf(namespace, names).map(({ reason }) => reason);
    await until("greedy", () => reasons("greedy", ["one", "three"]).length === 2);
    assert.deepEqual(reasons("greedy", ["one", "three", "two"]), [
      "SecretNotFound",
      "SecretNotFound",
      "SecretsTooMany",
    ]);
    await until("team", () => reasons("team", ["one"])[0] === "SecretNotFound");
    scene.addImage("team/b", ["two"]);
    await until("over", () => reasons("team", ["two"])[0] === "SecretsTooMany");
    assert.ok(watch.revisionOf("team", ["two"]));
    server.delete(images, "greedy/a");
    await until("team", () => reasons("team", ["two"])[0] === "SecretNotFound");
  });

  // A few namespaces that name many Secrets took every watch, and nobody else's login was known.
  test("takes a watch from whoever has most for a namespace that has none", async () => {
    await using scene = await Scene.start({ maxSecrets: 2, maxPerNamespace: 2 });
    const { watch, server } = scene;
    scene.addSecret("team/one", { "one.test": "anna:reef" });
    scene.addImage("greedy/a", ["one", "two"]);
    await until("greedy", () => watch.problemsOf("greedy", ["one", "two"]).length === 2);
    scene.told.length = 0;
    scene.addImage("team/a", ["one"]);
    await until("team", () => watch.entriesFor("team", ["one"]).length === 1);

    assert.deepEqual(
      watch.problemsOf("greedy", ["one", "two"]).map(({ reason }) => reason),
      ["SecretNotFound", "SecretsTooMany"],
    );
    assert.equal(scene.told[0], "greedy/two");
    await until("one watch each", () => server.watching === 3);
  });

  test("watches many Secrets over as many connections as it takes", async () => {
    await using scene = await Scene.start({ maxPerNamespace: 200 });
    const { watch, server } = scene;
    const names = Array.from({ length: 130 }, (_, index) => `secret${index}`);
    for (const [index, name] of names.entries()) {
      scene.addSecret(`team/${name}`, { "one.test": "anna:reef" });
      scene.addImage(`team/image${index}`, [name]);
    }
    await until("all", () => watch.entriesFor("team", names).length === names.length);
    assert.equal(server.connections, 1 + 3, "one for Images, and one for every 64 Secrets");
    for (const index of names.keys()) server.delete(images, `team/image${index}`);
    await until("let go", () => server.watching === 1);
    scene.addImage("team/image", ["secret0"]);
    await until("again", () => watch.entriesFor("team", ["secret0"]).length === 1);
    assert.equal(server.connections, 4, "connections are used again");
  });
});
