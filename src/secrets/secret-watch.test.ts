import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import { systemClock } from "#async/clock.ts";
import { KubeClient } from "#kube/client.ts";
import { secrets } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { aCertificate } from "#test/certificates.ts";
import { FakeApiServer, type SeenRequest } from "#test/fake-api-server.ts";
import { keptSecrets } from "./kept-secret.ts";
import { SecretWatch, type SecretWatchOptions } from "./secret-watch.ts";

const authority = aCertificate("registry.test").ca;

/** A server, and a watch that runs beside it. */
class Scene implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  readonly server: FakeApiServer;
  readonly watch: SecretWatch;
  readonly told: string[] = [];

  private constructor(server: FakeApiServer, options: Partial<SecretWatchOptions>) {
    const { signal } = this.#stop;
    this.server = server;
    const connect = (): KubeClient =>
      new KubeClient({ config: server.config, log: silentLog, userAgent: "test" });
    const common = { clock: systemClock, log: silentLog, random: () => 0.99 };
    this.watch = new SecretWatch({ ...common, connect, ...options });
    this.watch.onChange(({ namespace, name }) => void this.told.push(`${namespace}/${name}`));
    this.#running = this.watch.run(signal);
  }

  static async start(options: Partial<SecretWatchOptions> = {}): Promise<Scene> {
    return new Scene(await FakeApiServer.start({ resources: [secrets] }), options);
  }

  addSecret(key: string, auths: Record<string, string>, type = "dockerconfigjson"): void {
    const [namespace = "", name = ""] = key.split("/");
    this.server.create(secrets, {
      metadata: { namespace, name },
      type: `kubernetes.io/${type}`,
      data: { [`.${type}`]: dataOf(auths) },
    });
  }

  addAuthority(key: string, data: Record<string, string>): void {
    const [namespace = "", name = ""] = key.split("/");
    this.server.create(secrets, { metadata: { namespace, name }, type: "Opaque", data });
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
    await this.server[Symbol.asyncDispose]();
  }
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
  test("knows the logins of Secrets that users name, and reads no other", async () => {
    await using scene = await Scene.start();
    const { watch } = scene;
    scene.addSecret("team/one", { "one.test": "anna:reef" });
    scene.addSecret("team/two", { "two.test/x": "ben:kelp" });
    scene.addSecret("team/other", { "one.test": "eve:rock" });
    scene.addSecret("others/one", { "one.test": "eve:rock" });
    watch.use("team/a", "team", ["one", "two"]);
    watch.use("team/b", "team", ["one"]);
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
    watch.use("team/a", "team", ["one"]);
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
    watch.use("team/a", "team", names);
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

  test("knows the authority of a Secret, which need not hold logins", async () => {
    await using scene = await Scene.start();
    const { watch, server } = scene;
    const data = { "ca.crt": btoa(authority), "tls.key": btoa("hush-hush") };
    scene.addAuthority("team/ca", data);
    watch.use("team/a", "team", ["ca"]);
    await until("read", () => watch.revisionOf("team", ["ca"]) !== undefined);

    assert.equal(watch.caOf("team", "ca"), authority);
    assert.deepEqual(watch.problemsOf("team", [], { ca: "ca" }), []);
    assert.equal(watch.problemsOf("team", ["ca"])[0]?.reason, "SecretInvalid", "as a pull secret");
    const before = watch.revisionOf("team", ["ca"]);
    server.merge(secrets, "team/ca", { data: { "ca.crt": btoa(`${authority}${authority}`) } });
    await until("changed", () => watch.caOf("team", "ca") === `${authority}${authority}`);
    assert.notEqual(watch.revisionOf("team", ["ca"]), before);
    server.delete(secrets, "team/ca");
    await until("gone", () => watch.caOf("team", "ca") === undefined);
    assert.equal(watch.problemsOf("team", [], { ca: "ca" })[0]?.reason, "SecretNotFound");
    assert.ok(scene.told.length >= 3);
  });

  test("a Secret may be for logins and authority alike, and is watched and told of once", async () => {
    await using scene = await Scene.start();
    const { watch, server } = scene;
    scene.addSecret("team/all", { "one.test": "anna:reef" });
    watch.use("team/a", "team", ["all", "all", "all"]);
    await until("read", () => watch.entriesFor("team", ["all"]).length === 1);
    assert.deepEqual(watch.problemsOf("team", ["all"]), [], "nobody asks for its authority");
    const [lacking, ...others] = watch.problemsOf("team", ["all", "all"], { ca: "all" });
    assert.match(lacking?.message ?? "", /^data\["ca\.crt"\] must not be empty$/);
    assert.deepEqual(others, []);
    server.merge(secrets, "team/all", { data: { "ca.crt": btoa(authority) } });
    await until("whole", () => watch.caOf("team", "all") === authority);

    assert.deepEqual(watch.problemsOf("team", ["all"], { ca: "all" }), []);
    assert.equal(watch.entriesFor("team", ["all"]).length, 1);
    server.merge(secrets, "team/all", { data: { ".dockerconfigjson": "", "ca.crt": "" } });
    await until("spoilt", () => watch.caOf("team", "all") === undefined);
    assert.deepEqual(watch.problemsOf("team", ["all"], { ca: "all" }), [
      {
        name: "all",
        reason: "SecretInvalid",
        message: 'data[".dockerconfigjson"] must not be empty; data["ca.crt"] must not be empty',
      },
    ]);
    assert.equal(scene.asked.length, 1);
  });

  test("keeps of a Secret nothing but logins and authority", () => {
    const kept = keptSecrets.parse({
      metadata: {
        name: "all",
        namespace: "team",
        annotations: { "kubectl.kubernetes.io/last-applied-configuration": "hush" },
      },
      type: "kubernetes.io/dockerconfigjson",
      data: {
        ".dockerconfigjson": dataOf({ "one.test": "anna:reef" }),
        "ca.crt": btoa(authority),
        "tls.key": btoa("hush"),
      },
      stringData: { more: "hush" },
    });

    assert.deepEqual(kept, {
      metadata: { name: "all", namespace: "team" },
      entries: [{ registry: "one.test", path: "", login: { username: "anna", password: "reef" } }],
      problems: [],
      authority: { pem: authority },
    });
  });

  test("a Secret that may not be read keeps nobody waiting, until it may", async () => {
    await using scene = await Scene.start();
    const { watch, server } = scene;
    server.fail({ status: 403, times: 2, matching: isOfSecrets });
    scene.addSecret("team/one", { "one.test": "anna:reef" });
    watch.use("team/a", "team", ["one"]);
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
    watch.use("team/a", "team", ["one"]);
    await until("asked", () => scene.asked.length > 0);
    assert.equal(watch.revisionOf("team", ["one"]), undefined);
    assert.deepEqual(watch.problemsOf("team", ["one"]), []);
    assert.equal(watch.revisionOf("team", ["not-named-yet"]), undefined);
  });

  test("lets a Secret go with the last user that names it", async () => {
    await using scene = await Scene.start();
    const { watch, server } = scene;
    scene.addSecret("team/one", { "one.test": "anna:reef" });
    watch.use("team/a", "team", ["one"]);
    watch.use("team/b", "team", ["one"]);
    await until("watched", () => watch.entriesFor("team", ["one"]).length === 1);
    assert.equal(server.watching, 1);
    watch.use("team/a", "team", ["two"]);
    await until("another too", () => server.watching === 2);
    assert.equal(watch.entriesFor("team", ["one"]).length, 1, "another user names it");
    watch.use("team/a", "team", []);
    watch.use("team/b", "team", []);
    await until("let go", () => server.watching === 0);
    assert.deepEqual(watch.entriesFor("team", ["one"]), []);
  });

  test("watches no more than it may, of one namespace too, and fills places that become free", async () => {
    await using scene = await Scene.start({ maxSecrets: 3, maxPerNamespace: 2 });
    const { watch } = scene;
    watch.use("greedy/a", "greedy", ["one", "three", "two"]);
    watch.use("team/a", "team", ["one"]);
    const reasons = (namespace: string, names: readonly string[]): string[] =>
      watch.problemsOf(namespace, names).map(({ reason }) => reason);
    await until("greedy", () => reasons("greedy", ["one", "three"]).length === 2);
    assert.deepEqual(reasons("greedy", ["one", "three", "two"]), [
      "SecretNotFound",
      "SecretNotFound",
      "SecretsTooMany",
    ]);
    await until("team", () => reasons("team", ["one"])[0] === "SecretNotFound");
    watch.use("team/b", "team", ["two"]);
    await until("over", () => reasons("team", ["two"])[0] === "SecretsTooMany");
    assert.ok(watch.revisionOf("team", ["two"]));
    watch.use("greedy/a", "greedy", []);
    await until("team", () => reasons("team", ["two"])[0] === "SecretNotFound");
  });

  // A few namespaces that name many Secrets took every watch, and nobody else's login was known.
  test("takes a watch from whoever has most for a namespace that has none", async () => {
    await using scene = await Scene.start({ maxSecrets: 2, maxPerNamespace: 2 });
    const { watch, server } = scene;
    scene.addSecret("team/one", { "one.test": "anna:reef" });
    watch.use("greedy/a", "greedy", ["one", "two"]);
    await until("greedy", () => watch.problemsOf("greedy", ["one", "two"]).length === 2);
    scene.told.length = 0;
    watch.use("team/a", "team", ["one"]);
    await until("team", () => watch.entriesFor("team", ["one"]).length === 1);

    assert.deepEqual(
      watch.problemsOf("greedy", ["one", "two"]).map(({ reason }) => reason),
      ["SecretNotFound", "SecretsTooMany"],
    );
    assert.equal(scene.told[0], "greedy/two");
    await until("one watch each", () => server.watching === 2);
  });

  test("watches many Secrets over as many connections as it takes", async () => {
    await using scene = await Scene.start({ maxPerNamespace: 200 });
    const { watch, server } = scene;
    const names = Array.from({ length: 130 }, (_, index) => `secret${index}`);
    for (const [index, name] of names.entries()) {
      scene.addSecret(`team/${name}`, { "one.test": "anna:reef" });
      watch.use(`user${index}`, "team", [name]);
    }
    await until("all", () => watch.entriesFor("team", names).length === names.length);
    assert.equal(server.connections, 3, "one for every 64");
    for (const index of names.keys()) watch.use(`user${index}`, "team", []);
    await until("let go", () => server.watching === 0);
    watch.use("user", "team", ["secret0"]);
    await until("again", () => watch.entriesFor("team", ["secret0"]).length === 1);
    assert.equal(server.connections, 3, "connections are used again");
  });
});
