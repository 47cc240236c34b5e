import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { installCoral } from "#sandbox/install-coral.ts";
import { openRegistry, privateRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { ensurePrograms } from "#sandbox/toolchain/build.ts";
import { waitFor } from "#sandbox/wait.ts";
import { FakeRegistry, type FakeRepository } from "#test/fake-repository.ts";
import { addImage } from "#test/images.ts";
import { besideAddress, isSynced, MirrorCluster, team } from "#test/mirror-cluster.ts";
import { pullSecret } from "#test/pull-secrets.ts";

const report = (line: string): void => console.error(line);
const [coral] = privateRegistry.logins;

/** Images in memory, one for each tag, with a layer that all share and one of their own. */
function images(tags: readonly string[]): FakeRepository {
  const repository = new FakeRegistry().repository("org/app");
  for (const tag of tags) addImage(repository, ["base", `layer of ${tag}`], { tag });
  return repository;
}

const sourceOf = (path: string): string => `${openRegistry.host}/${path}`;
const copyOf = (path: string): string => `copies/registry.test_5000/${path}`;

/** Copies one repository to a name that another Mirror may want, too. */
const ontoSameName = (path: string): Readonly<Record<string, unknown>> => ({
  destination: "same/name",
  repositories: [{ name: sourceOf(path), tags: ["1"] }],
});

describe("Mirrors on a real cluster", { timeout: 20 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let mirrors: MirrorCluster;

  before(async () => {
    await ensurePrograms({ report, optional: ["signers"], signal });
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
    await installCoral(sandbox, { mirror: { CORAL_LEASE_DURATION: "5s" }, signal });
    mirrors = await MirrorCluster.of(sandbox);
    await sandbox.kubectl(["create", "namespace", team], scope);
    const writer = pullSecret(
      { namespace: team, name: "writer" },
      { [privateRegistry.host]: coral },
    );
    await mirrors.cluster.apply(writer, scope);
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

  test("a signed image of two platforms with its SBOM arrives whole: cosign and oras agree on both sides", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-signed-"));
    const { programs } = sandbox;
    const crane = programs.file("crane");
    const cosign = programs.file("cosign");
    const oras = programs.file("oras");
    const inside = async (argv: readonly string[]): Promise<string> => {
      const env = { HOME: folder.path, DOCKER_CONFIG: folder.path, COSIGN_PASSWORD: "" };
      return (await sandbox.exec(argv, { env, cwd: folder.path, signal })).stdout;
    };
    const source = `${besideAddress.open}/org/signed`;
    const copy = `${besideAddress.private}/copies/registry.test_5000/org/signed`;
    await inside([
      crane,
      "auth",
      "login",
      besideAddress.private,
      "-u",
      coral.username,
      "-p",
      coral.password,
    ]);
    await inside([crane, "copy", `${besideAddress.open}/library/multi:1`, `${source}:1`]);
    const digest = (await inside([crane, "digest", `${source}:1`])).trim();
    await inside([cosign, "generate-key-pair"]);
    const offline = [
      "--use-signing-config=false",
      "--tlog-upload=false",
      "--allow-insecure-registry",
    ];
    await inside([
      cosign,
      "sign",
      "--key",
      "cosign.key",
      "--yes",
      ...offline,
      `${source}@${digest}`,
    ]);
    const type = "application/vnd.cyclonedx+json";
    await sandbox.exec(["sh", "-c", `echo '{"bomFormat":"CycloneDX"}' > sbom.json`], {
      cwd: folder.path,
      signal,
    });
    await inside([
      oras,
      "attach",
      "--plain-http",
      "--artifact-type",
      type,
      `${source}@${digest}`,
      `sbom.json:${type}`,
    ]);

    await mirrors.mirror(
      "signed",
      {
        registry: `${privateRegistry.host}/copies`,
        pushSecret: { name: "writer" },
        repositories: [{ name: sourceOf("org/signed"), tags: ["1"] }],
      },
      scope,
    );
    await sandbox.kubectl(
      ["-n", team, "wait", "--for=condition=Ready", "mirror/signed", "--timeout=60s"],
      scope,
    );

    assert.equal((await inside([crane, "digest", `${copy}:1`])).trim(), digest);
    const verify = [
      cosign,
      "verify",
      "--key",
      "cosign.pub",
      "--insecure-ignore-tlog=true",
      "--allow-insecure-registry",
    ];
    const found = [];
    for (const side of [source, copy]) {
      assert.match(await inside([...verify, `${side}@${digest}`]), new RegExp(digest));
      const tree: unknown = JSON.parse(
        await inside([oras, "discover", "--plain-http", "--format", "json", `${side}@${digest}`]),
      );
      assert.ok(typeof tree === "object" && tree && "referrers" in tree);
      assert.ok(Array.isArray(tree.referrers));
      const referrers = tree.referrers.map(
        ({ digest: of, artifactType }) => `${of} ${artifactType}`,
      );
      found.push(referrers.toSorted().join("\n"));
    }
    assert.match(found[0] ?? "", /cyclonedx/);
    assert.match(found[0] ?? "", /sigstore.bundle/);
    assert.equal(found[1], found[0]);
  });

  test("1,100 tags are copied; an unchanged one costs a HEAD on each side at most, a moved one a copy", async () => {
    const tags = Array.from({ length: 1_100 }, (_, index) => `v${index}`);
    const many = new FakeRegistry().repository("org/app");
    for (const tag of tags) addImage(many, ["base"], { tag, artifactType: `test/${tag}` });
    await mirrors.serve(many, "org/many", tags, scope);
    await sandbox.upstream.forgetRequests(scope);
    const spec = { repositories: [{ name: sourceOf("org/many"), listSelection: "all" }] };
    await mirrors.mirror("many", spec, scope);
    const first = await mirrors.statusIs("many", isSynced, { ...scope, timeoutMs: 240_000 });
    assert.equal(first.progress, "1100/1100");
    const pages = (await mirrors.requests(scope)).filter(({ path }) =>
      path.includes("/org/many/tags/list?"),
    );
    assert.ok(
      pages.some(({ path }) => path.includes("last=")),
      "the list comes in pages",
    );

    await sandbox.upstream.forgetRequests(scope);
    await mirrors.runNow("many", "again", scope);
    const unchanged = await mirrors.requests(scope);
    const ofTags = unchanged.filter(({ path }) => path.includes("/manifests/v"));
    assert.deepEqual([...new Set(ofTags.map(({ method }) => method))], ["HEAD"]);
    assert.ok(ofTags.length <= 2 * tags.length, `${ofTags.length} HEADs`);
    assert.deepEqual(
      unchanged
        .filter(({ method }) => method !== "HEAD" && method !== "GET")
        .map(({ path }) => path),
      [],
    );

    addImage(many, ["base", "moved"], { tag: "v7" });
    await mirrors.serve(many, "org/many", ["v7"], scope);
    await sandbox.upstream.forgetRequests(scope);
    await mirrors.runNow("many", "moved", scope);
    assert.equal(await mirrors.digestOf(copyOf("org/many"), "v7", scope), many.tagged("v7"));
    const puts = (await mirrors.requests(scope)).filter(
      ({ method, path }) => method === "PUT" && path.includes("/manifests/v"),
    );
    assert.deepEqual(
      puts.map(({ path }) => path.split("/").at(-1)),
      ["v7"],
    );
  });

  test("kubectl shows SYNCED, FAILED, LAST, NEXT and AGE", async () => {
    await mirrors.serve(images(["1", "2"]), "org/shown", ["1", "2"], scope);
    await mirrors.mirror(
      "shown",
      { repositories: [{ name: sourceOf("org/shown"), tags: ["1", "2", "none"] }] },
      scope,
    );
    const status = await mirrors.statusIs("shown", ({ failed }) => failed > 0, scope);
    const { stdout } = await sandbox.kubectl(["-n", team, "get", "mirror", "shown"], scope);

    assert.match(stdout, /^NAME +SYNCED +FAILED +LAST +NEXT +AGE/);
    assert.match(stdout, /\nshown +2\/3 +1 +\S+ +\S+ +\S+/);
    const [failure] = status.failures ?? [];
    assert.equal(failure?.reference, `${sourceOf("org/shown")}:none`);
    assert.equal(failure?.reason, "NotFound");
    await mirrors.eventIs(
      "shown",
      ({ type, message }) => type === "Warning" && /org\/shown:none/.test(message),
      scope,
    );
  });

  test("a wrong password to push is Denied; the corrected Secret alone mends it", async () => {
    const metadata = { namespace: team, name: "rotating" };
    const login = (password: string): unknown =>
      pullSecret(metadata, { [privateRegistry.host]: { ...coral, password } });
    await mirrors.cluster.apply(login("wrong-password"), scope);
    await mirrors.serve(images(["1"]), "org/rotating", ["1"], scope);
    await mirrors.mirror(
      "rotating",
      {
        registry: `${privateRegistry.host}/copies`,
        pushSecret: { name: "rotating" },
        repositories: [{ name: sourceOf("org/rotating"), tags: ["1"] }],
      },
      scope,
    );
    const denied = await mirrors.statusIs("rotating", ({ failed }) => failed > 0, scope);
    assert.equal(denied.failures?.[0]?.reason, "Denied");
    await mirrors.cluster.apply(login(coral.password), scope);
    await mirrors.statusIs("rotating", isSynced, scope);

    const said = await sandbox.kubectl(
      ["get", "mirrors,mirrorshards,events", "-A", "-o", "yaml"],
      scope,
    );
    assert.doesNotMatch(said.stdout, /wrong-password|reef/);
    const toSource = (await mirrors.requests(scope)).filter(
      ({ host }) => host === openRegistry.host,
    );
    assert.deepEqual(
      toSource.filter(({ login: seen }) => seen),
      [],
      "the source saw a login",
    );
  });

  test("Delete removes what is not selected any more, and a dropped repository's copies, but nothing that a pod runs or that was there before", async () => {
    const tags = ["1", "2", "3"];
    const source = images(tags);
    await mirrors.serve(source, "org/old", tags, scope);
    await mirrors.serve(source, copyOf("org/old"), ["3"], scope); // Somebody else's, the same.
    const mirror = async (selected: readonly string[], path = "org/old"): Promise<void> =>
      mirrors.mirror(
        "old",
        {
          repositories: [{ name: sourceOf(path), tags: selected }],
          removalPolicy: "Delete",
          gracePeriod: "1s",
          interval: "1m",
        },
        scope,
      );
    await mirror(tags);
    await mirrors.statusIs("old", isSynced, scope);
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { namespace: team, name: "user" },
      spec: {
        containers: [{ name: "main", image: `${openRegistry.host}/${copyOf("org/old")}:2` }],
      },
    };
    await mirrors.cluster.apply(pod, scope);
    addImage(source, ["base", "new"], { tag: "4" });
    await mirrors.serve(source, "org/old", ["4"], scope);
    await mirror(["4"]);
    const there = async (tag: string): Promise<boolean> =>
      (await mirrors.digestOf(copyOf("org/old"), tag, scope)) !== undefined;
    await waitFor(async () => !(await there("1")) || undefined, {
      what: "tag 1 to go",
      timeoutMs: 120_000,
      signal,
    });
    const kept = await mirrors.statusIs(
      "old",
      ({ removals = [] }) => removals.some(({ keptBy }) => keptBy),
      scope,
    );

    assert.match(kept.removals?.find(({ keptBy }) => keptBy)?.keptBy ?? "", /Pod team\/user/);
    assert.deepEqual([await there("2"), await there("3"), await there("4")], [true, true, true]);
    await sandbox.kubectl(["-n", team, "delete", "pod", "user", "--now"], scope);
    await waitFor(async () => !(await there("2")) || undefined, {
      what: "tag 2 to go",
      timeoutMs: 120_000,
      signal,
    });
    assert.deepEqual([await there("3"), await there("4")], [true, true]);
    await mirror(["1"], "org/another");
    await waitFor(async () => !(await there("4")) || undefined, {
      what: "tag 4 to go with its repository",
      timeoutMs: 120_000,
      signal,
    });
    assert.equal(await there("3"), true);
  });

  test("of two Mirrors that write to one name the older has it, and the other says so", async () => {
    await mirrors.serve(images(["1"]), "org/one", ["1"], scope);
    await mirrors.serve(images(["1"]), "org/two", ["1"], scope);
    await mirrors.mirror("older", ontoSameName("org/one"), scope);
    await mirrors.statusIs("older", isSynced, scope);
    await mirrors.mirror("younger", ontoSameName("org/two"), scope);
    const { conditions = [] } = await mirrors.statusIs(
      "younger",
      ({ conditions: all = [] }) => all.some(({ reason }) => reason === "DestinationCollision"),
      scope,
    );

    assert.match(
      conditions.find(({ reason }) => reason === "DestinationCollision")?.message ?? "",
      /team\/older/,
    );
    assert.deepEqual(await mirrors.shards("younger", scope), []);
  });

  test("a suspended Mirror copies nothing until it is let go", async () => {
    await mirrors.serve(images(["1"]), "org/held", ["1"], scope);
    const repositories = [{ name: sourceOf("org/held"), tags: ["1"] }];
    await mirrors.mirror("held", { repositories, suspend: true }, scope);
    await mirrors.statusIs(
      "held",
      ({ conditions = [] }) => conditions.some(({ reason }) => reason === "Suspended"),
      scope,
    );
    assert.deepEqual(
      (await mirrors.requests(scope)).filter(({ path }) => path.includes("org/held")),
      [],
    );
    await mirrors.mirror("held", { repositories, suspend: false }, scope);
    await mirrors.statusIs("held", isSynced, scope);
  });
});
