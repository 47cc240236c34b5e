import assert from "node:assert/strict";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { systemClock } from "#async/clock.ts";
import { isJsonObject } from "#json/json.ts";
import { BlobPool } from "#mirror/blob-pool.ts";
import { RepositoryCopy } from "#mirror/copy.ts";
import type { ContentTarget } from "#oci/content.ts";
import { RegistryClient } from "#remote/registry-client.ts";
import { silentLog } from "#telemetry/log.ts";
import { aCertificate } from "#test/certificates.ts";
import { startDistribution, type Distribution } from "#test/distribution.ts";
import { FakeRegistry, type FakeRepository } from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import { MirrorUser } from "#test/mirror-command.ts";
import { RecordingProxy } from "#test/recording-proxy.ts";

const login = { username: "anna", password: "anemone-of-the-reef" };
const limit = { timeout: 120_000 };

function aMirror(registry: string, fields: string, name = "web"): string {
  return `apiVersion: stvz.io/v1\nkind: Mirror\nmetadata: { name: ${name} }\nspec:\n  registry: ${registry}\n${fields}\n`;
}

describe("coral mirror run", limit, () => {
  const stack = new AsyncDisposableStack();
  const { signal } = new AbortController();
  let upstream: RecordingProxy;
  let local: RecordingProxy;
  /** Without a login. */
  let other: Distribution;
  let client: RegistryClient;
  let user: MirrorUser;
  const index = { digest: "" };
  const sbom = { digest: "" };

  before(async () => {
    const [from, to, third] = await Promise.all([
      startDistribution(undefined, { signal }),
      startDistribution(login, { signal }),
      startDistribution(undefined, { signal }),
    ]);
    for (const registry of [from, to, third]) stack.use(registry);
    other = third;
    upstream = stack.use(await RecordingProxy.start(from.host));
    local = stack.use(await RecordingProxy.start(to.host));
    user = stack.use(await MirrorUser.make());
    client = stack.use(
      new RegistryClient({
        userAgent: "test",
        log: silentLog,
        clock: systemClock,
        network: { allows: () => true },
        plainHttp: [from.host, upstream.host, local.host, other.host],
      }),
    );
    const images = new FakeRegistry().repository("org/app");
    index.digest = addIndex(images, "1", [
      { descriptor: addImage(images, ["base", "amd64"]), platform: "linux/amd64" },
      { descriptor: addImage(images, ["base", "arm64"]), platform: "linux/arm64" },
    ]).digest;
    const subject = {
      mediaType: "application/vnd.oci.image.index.v1+json",
      sizeBytes: 0,
      ...index,
    };
    sbom.digest = addImage(images, ["sbom"], {
      subject: { ...subject, sizeBytes: images.textOf(index.digest).length },
      artifactType: "application/spdx+json",
    }).digest;
    addImage(images, ["another"], { tag: "2" });
    await push(images, "org/app", ["1", "2"]);
    await push(images, "org/held", ["2"]);
  });

  after(() => stack.disposeAsync());

  /** Puts what a test has in memory into the upstream registry. */
  async function push(
    source: FakeRepository,
    path: string,
    tags: readonly string[],
  ): Promise<void> {
    const repository = client.repository(`${upstream.host}/${path}`, {
      logins: [],
      actions: "pull,push",
    });
    const target = { repository, path };
    const copy = new RepositoryCopy({ source, target, blobs: new BlobPool({ signal }), signal });
    for (const tag of tags) {
      const result = await copy.copyTag(tag);
      assert.equal(result.outcome, "copied", JSON.stringify(result));
    }
  }

  function copyAt(host: string, path: string): ContentTarget {
    const logins = host === local.host ? [login] : [];
    return client.repository(`${host}/${path}`, { logins });
  }

  const plain = (): string[] => ["--plain-http", upstream.host, "--plain-http", local.host];

  async function writeMirror(): Promise<void> {
    const repositories = `  repositories: [{ name: "${upstream.host}/org/app", listSelection: all }]`;
    await user.write("mirror.yaml", aMirror(`${local.host}/mirror`, repositories));
  }

  /** Where the copy is by the default template. */
  const copyPath = (): string => `mirror/${upstream.host.replace(":", "_")}/org/app`;

  test("says in a dry run what it would copy, and writes nothing", limit, async () => {
    await writeMirror();
    await user.logIn(local.host, login.username, login.password);
    local.take();
    const { exitCode, stdout, stderr } = await user.run([
      "-f",
      "mirror.yaml",
      "--dry-run",
      ...plain(),
    ]);

    assert.equal(exitCode, 0, stderr);
    assert.match(stdout, /org\/app:1 +127\.0\.0\.1:\d+\/mirror\/.*\/org\/app +[\d.]+ k?B/);
    assert.match(
      stdout,
      /^2 to copy \(.*\), 0 unchanged, 0 failed, 0 throttled; nothing was written/m,
    );
    assert.deepEqual(local.take("POST", "PUT", "PATCH", "DELETE"), []);
  });

  test("names the registry that refuses a login, and not the password", limit, async () => {
    await writeMirror();
    await user.logIn(local.host, login.username, "wrong-password");
    const { exitCode, stdout, stderr } = await user.run(["-f", "mirror.yaml", ...plain()]);

    assert.equal(exitCode, 1, stderr);
    assert.match(stdout, new RegExp(`^failed .*/org/app:1: DENIED: ${local.host}: `, "m"));
    assert.match(stdout, new RegExp(`log in with "docker login ${local.host}"`));
    assert.doesNotMatch(stdout + stderr, /wrong-password|d3JvbmctcGFzc3dvcmQ/);
  });

  test(
    "copies platforms and referrers with the user's login, and then nothing more",
    limit,
    async () => {
      await writeMirror();
      await user.logIn(local.host, login.username, login.password);
      const first = await user.run(["-f", "mirror.yaml", ...plain()]);

      assert.equal(first.exitCode, 0, first.stdout + first.stderr);
      assert.match(first.stderr, /^copied .*\/org\/app:1 to /m);
      assert.match(first.stdout, /^2 copied, 0 unchanged, 0 failed, 0 throttled; .* sent in /m);
      const copy = copyAt(local.host, copyPath());
      assert.equal((await copy.find("1", { signal }))?.digest, index.digest);
      const referrers = await copy.referrers(index.digest, { signal });
      assert.deepEqual(
        referrers.map(({ digest }) => digest),
        [sbom.digest],
      );

      upstream.take();
      local.take();
      const second = await user.run(["-f", "mirror.yaml", ...plain(), "--report", "json"]);

      assert.equal(second.exitCode, 0, second.stderr);
      const report: unknown = JSON.parse(second.stdout);
      assert.ok(isJsonObject(report));
      assert.deepEqual(report["totals"], {
        copied: 0,
        unchanged: 2,
        planned: 0,
        failed: 0,
        throttled: 0,
        bytesCopied: 0,
      });
      const gets = [...upstream.take("GET"), ...local.take("GET", "POST", "PUT", "PATCH")];
      const ofContent = gets.filter((line) => /^(POST|PUT|PATCH)|\/(manifests|blobs)\//.test(line));
      assert.deepEqual(ofContent, []);
    },
  );

  test("carries images across in an OCI layout, with the same digests", limit, async () => {
    const away = aMirror(
      "oci:./carried",
      `  repositories: [{ name: "${upstream.host}/org/app", listSelection: all }]`,
    );
    const home = aMirror(
      other.host,
      `  destination: "{name}"\n  repositories: [{ name: "oci:./carried", listSelection: all }]`,
    );
    await user.write("away.yaml", away);

    const dry = await user.run(["-f", "away.yaml", "--dry-run", "--plain-http", upstream.host]);
    assert.equal(dry.exitCode, 0, dry.stderr);
    await assert.rejects(access(join(user.folder, "carried")), "a dry run makes no folder");

    const out = await user.run(["-f", "away.yaml", "--plain-http", upstream.host]);
    assert.equal(out.exitCode, 0, out.stdout + out.stderr);
    await user.write("home.yaml", home);
    const back = await user.run(["-f", "home.yaml", "--plain-http", other.host]);
    assert.equal(back.exitCode, 0, back.stdout + back.stderr);

    const copy = copyAt(other.host, "app");
    assert.equal((await copy.find("1", { signal }))?.digest, index.digest);
    const [referrer, ...more] = await copy.referrers(index.digest, { signal });
    assert.equal(referrer?.digest, sbom.digest);
    assert.deepEqual(more, []);
    const again = await user.run(["-f", "-", "--plain-http", other.host], home);
    assert.match(again.stdout, /^0 copied, 2 unchanged/m);
  });

  test("brings a signature that came later only where that is asked for", limit, async () => {
    await writeMirror();
    await user.logIn(local.host, login.username, login.password);
    const images = new FakeRegistry().repository("org/app");
    const root = await copyAt(upstream.host, "org/app").manifest("1", { signal });
    assert.ok(root);
    const { mediaType, digest, bytes } = root;
    const late = addImage(images, ["signature"], {
      tag: "late",
      subject: { mediaType, digest, sizeBytes: bytes.length },
      artifactType: "application/vnd.dev.sigstore.bundle.v0.3+json",
    });
    await push(images, "org/app", ["late"]);
    const hasLate = async (): Promise<boolean> => {
      const found = await copyAt(local.host, copyPath()).referrers(index.digest, { signal });
      return found.some((referrer) => referrer.digest === late.digest);
    };
    const only = aMirror(
      `${local.host}/mirror`,
      `  repositories: [{ name: "${upstream.host}/org/app", tags: ["1"] }]`,
    );

    const plainRun = await user.run(["-f", "-", ...plain()], only);
    assert.match(plainRun.stdout, /^0 copied, 1 unchanged/m);
    assert.equal(await hasLate(), false);

    const refreshed = await user.run(["-f", "-", ...plain(), "--refresh-referrers"], only);
    assert.match(refreshed.stdout, /^1 copied, 0 unchanged/m, refreshed.stderr);
    assert.equal(await hasLate(), true);
  });

  test("has a credential helper give the login", limit, async () => {
    const answer = JSON.stringify({ Username: login.username, Secret: login.password });
    const helper = `#!/bin/sh\nread -r host\n[ "$host" = "${local.host}" ] && echo '${answer}' && exit\necho "credentials not found in native keychain"; exit 1\n`;
    await user.write("bin/docker-credential-reef", helper, 0o755);
    await user.write(".docker/config.json", JSON.stringify({ credsStore: "reef" }));
    const repositories = `  destination: helped\n  repositories: [{ name: "${upstream.host}/org/app", tags: ["2"] }]`;
    const { exitCode, stdout, stderr } = await user.run(
      ["-f", "-", ...plain()],
      aMirror(local.host, repositories),
    );

    assert.equal(exitCode, 0, stdout + stderr);
    assert.match(stdout, /^1 copied/m);
    assert.doesNotMatch(stdout + stderr, new RegExp(login.password));
  });

  test("trusts a certificate that it is told to trust, and no other", limit, async () => {
    const { ca, ...certificate } = aCertificate("localhost");
    await using secure = await RecordingProxy.start(other.host, certificate);
    await user.write("ca.crt", ca);
    const repositories = `  repositories: [{ name: "${upstream.host}/org/app", tags: ["2"] }]`;
    const runWith = async (prefix: string, ...flags: string[]): ReturnType<MirrorUser["run"]> =>
      user.run(
        ["-f", "-", "--plain-http", upstream.host, ...flags],
        aMirror(`${secure.host}/${prefix}`, repositories),
      );

    const without = await runWith("tls");
    assert.equal(without.exitCode, 1, without.stderr);
    assert.match(without.stdout, new RegExp(`: UNREACHABLE: ${secure.host}: `));
    assert.match(without.stdout, /^ +have its certificate trusted by --ca-file FILE/m);
    const trusted = await runWith("tls", "--ca-file", "ca.crt");
    assert.equal(trusted.exitCode, 0, trusted.stdout + trusted.stderr);
    assert.match(trusted.stdout, /^1 copied/m);
    const noTls = await user.run(["-f", "-"], aMirror(upstream.host, repositories));
    assert.match(
      noTls.stdout,
      new RegExp(`HTTP without TLS, say so: --plain-http ${upstream.host}$`, "m"),
    );
    const careless = await runWith("careless", "--insecure-skip-tls-verify", secure.host);
    assert.equal(careless.exitCode, 0, careless.stdout + careless.stderr);
  });

  test("stops at Ctrl-C, says what was done, and goes on from there", limit, async () => {
    await user.logIn(local.host, login.username, login.password);
    const repositories = `  destination: stop/{name}\n  repositories: [{ name: "${upstream.host}/org/app", tags: ["1"] }, { name: "${upstream.host}/org/held", tags: ["2"] }]`;
    await user.write("stop.yaml", aMirror(local.host, repositories));
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    local.before = async (_method, path) => {
      if (path.includes("/stop/held/blobs/uploads/")) await released;
    };
    const command = user.start(["-f", "stop.yaml", ...plain()]);
    await command.seen("org/app:1 to ");
    command.child.kill("SIGINT");
    const { exitCode, stdout, stderr } = await command.result;
    release();

    assert.equal(exitCode, 130, stdout + stderr);
    assert.match(stderr, /stopping: Ctrl-C again ends it at once/);
    assert.match(stdout, /^1 copied, 0 unchanged, 0 failed/m);
    assert.match(stdout, /^Interrupted\. What is copied stays/m);

    const second = await user.run(["-f", "stop.yaml", ...plain()]);
    assert.equal(second.exitCode, 0, second.stdout + second.stderr);
    assert.match(second.stdout, /^1 copied, 1 unchanged, 0 failed/m);
  });

  test(
    "refuses files that mean nothing, with field, value and what was expected",
    limit,
    async () => {
      const repositories = `  repositories: [{ name: a.test/x/app }, { name: b.test/y/app }]`;
      const cases: Record<string, [content: string | undefined, message: RegExp]> = {
        "missing.yaml": [undefined, /^missing\.yaml: must be a file, and is not there$/m],
        "empty.yaml": ["", /^empty\.yaml:1: must hold a Mirror, and is empty$/m],
        "others.yaml": [
          "apiVersion: v1\nkind: Secret\n",
          /^note: others\.yaml:1: "Secret" is left out: only Mirrors are copied\nThere is no Mirror in what was given by --filename$/m,
        ],
        "field.yaml": [
          aMirror("r.test", `${repositories}\n  platfroms: [linux/amd64]`),
          /^field\.yaml:7: Mirror "web": spec\.platfroms ".*" must be a field that there is: perhaps "platforms"$/m,
        ],
        "colliding.yaml": [
          aMirror("r.test", `  destination: "{name}"\n${repositories}`),
          /^colliding\.yaml:7: Mirror "web": spec\.repositories\[1\]\.name "b\.test\/y\/app" must not be copied to r\.test\/app, as a\.test\/x\/app is/m,
        ],
        "colliding-mirrors.yaml": [
          `${aMirror("r.test", `  destination: x\n  repositories: [{ name: a.test/x }]`)}---\n${aMirror("r.test", `  destination: x\n  repositories: [{ name: b.test/x }]`, "two")}`,
          /^colliding-mirrors\.yaml:15: Mirror "two": spec\.repositories\[0\]\.name "b\.test\/x" must not be copied to r\.test\/x, as spec\.repositories\[0\]\.name of Mirror "web" is/m,
        ],
        "layout.yaml": [
          aMirror("r.test", `  repositories: [{ name: "oci:./nowhere" }]`),
          /^layout\.yaml:6: Mirror "web": spec\.repositories\[0\]\.name "oci:\.\/nowhere" must be an OCI layout: /m,
        ],
        "itself.yaml": [
          aMirror("r.test", `  destination: "{path}"\n  repositories: [{ name: r.test/x }]`),
          /^itself\.yaml:7: .* "r\.test\/x" must not be copied to r\.test\/x, which is copied from/m,
        ],
      };
      for (const [name, [content, message]] of Object.entries(cases)) {
        if (content !== undefined) await user.write(name, content);
        const { exitCode, stdout, stderr } = await user.run(["-f", name]);

        assert.equal(exitCode, 2, `${name}: ${stdout}${stderr}`);
        assert.match(stderr, message);
        assert.equal(stdout, "");
      }
    },
  );
});
