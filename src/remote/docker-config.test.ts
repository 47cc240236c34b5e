import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";

import { parseRepository } from "#oci/reference.ts";
import { CredentialHelperError } from "./credential-helper.ts";
import { UserLogins } from "./docker-config.ts";
import type { Login } from "./keyring.ts";

const base64 = (text: string): string => Buffer.from(text).toString("base64");

/** A home with files in it, and a PATH that has its `bin` alone besides the shell's. */
class Home implements AsyncDisposable {
  readonly path: string;
  readonly env: Record<string, string>;
  readonly #remove: () => Promise<void>;

  private constructor(path: string, remove: () => Promise<void>) {
    this.path = path;
    this.env = { PATH: `${join(path, "bin")}:/usr/bin:/bin` };
    this.#remove = remove;
  }

  static async make(): Promise<Home> {
    const folder = await mkdtempDisposable(join(tmpdir(), "coral-home-"));
    return new Home(folder.path, () => folder.remove());
  }

  async write(name: string, content: unknown): Promise<string> {
    const path = join(this.path, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  }

  /** Puts a credential helper on the PATH. It notes what it is asked in the file `asked`. */
  async helper(name: string, script: string): Promise<void> {
    const path = join(this.path, "bin", `docker-credential-${name}`);
    await mkdir(dirname(path), { recursive: true });
    const head = `#!/bin/sh\nread -r host\necho "$1 $host" >> "${join(this.path, "asked")}"\n`;
    await writeFile(path, head + script, { mode: 0o755 });
  }

  async read(options: { helperTimeoutMs?: number } = {}): Promise<UserLogins> {
    return UserLogins.read({ env: this.env, homeFolder: this.path, ...options });
  }

  async loginsFor(name: string, signal: AbortSignal): Promise<Login[]> {
    return (await this.read()).loginsFor(parseRepository(name), { signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#remove();
  }
}

const anna = { username: "anna", password: "anemone" };
const ben = { username: "ben", password: "barnacle" };
const authOf = ({ username, password }: typeof anna): { auth: string } => ({
  auth: base64(`${username}:${password}`),
});

describe("UserLogins", () => {
  test("has none, and no problem, where there are no files", async ({ signal }) => {
    await using home = await Home.make();
    const logins = await home.read();

    assert.deepEqual(logins.problems, []);
    assert.deepEqual(await logins.loginsFor(parseRepository("ghcr.io/a/b"), { signal }), []);
  });

  test("reads ~/.docker/config.json, the longest path first", async ({ signal }) => {
    await using home = await Home.make();
    await home.write(".docker/config.json", {
      auths: {
        "ghcr.io": authOf(anna),
        "ghcr.io/team": authOf(ben),
        "https://index.docker.io/v1/": { identitytoken: "for-ever" },
      },
    });

    assert.deepEqual(await home.loginsFor("ghcr.io/team/app", signal), [ben, anna]);
    assert.deepEqual(await home.loginsFor("ghcr.io/other/app", signal), [anna]);
    assert.deepEqual(await home.loginsFor("debian", signal), [{ identityToken: "for-ever" }]);
    assert.deepEqual(await home.loginsFor("quay.io/team/app", signal), []);
  });

  test("reads the folder that DOCKER_CONFIG names instead", async ({ signal }) => {
    await using home = await Home.make();
    await home.write(".docker/config.json", { auths: { "ghcr.io": authOf(anna) } });
    const path = await home.write("other/config.json", { auths: { "ghcr.io": authOf(ben) } });
    home.env["DOCKER_CONFIG"] = dirname(path);

    assert.deepEqual(await home.loginsFor("ghcr.io/a", signal), [ben]);
  });

  test("takes REGISTRY_AUTH_FILE first, and containers/auth.json last", async ({ signal }) => {
    await using home = await Home.make();
    home.env["REGISTRY_AUTH_FILE"] = await home.write("auth.json", {
      auths: { "ghcr.io": authOf(ben) },
    });
    await home.write(".docker/config.json", {
      auths: { "ghcr.io": authOf(anna), "a.test": authOf(anna) },
    });
    await home.write("run/containers/auth.json", {
      auths: { "a.test": authOf(ben), "b.test": authOf(ben) },
    });
    home.env["XDG_RUNTIME_DIR"] = join(home.path, "run");

    assert.deepEqual(await home.loginsFor("ghcr.io/a", signal), [ben]);
    assert.deepEqual(await home.loginsFor("a.test/a", signal), [anna]);
    assert.deepEqual(await home.loginsFor("b.test/a", signal), [ben]);
  });

  test("says that REGISTRY_AUTH_FILE is not there", async () => {
    await using home = await Home.make();
    home.env["REGISTRY_AUTH_FILE"] = join(home.path, "nowhere.json");

    const { problems } = await home.read();

    assert.deepEqual(problems, [`${home.path}/nowhere.json (REGISTRY_AUTH_FILE) is not there`]);
  });

  test("asks the helper of the host, and only for that host", async ({ signal }) => {
    await using home = await Home.make();
    await home.helper("own", `echo '{"ServerURL":"x","Username":"ben","Secret":"barnacle"}'`);
    await home.write(".docker/config.json", {
      auths: { "ghcr.io": {}, "quay.io": authOf(anna) },
      credHelpers: { "GHCR.io": "own" },
    });
    const logins = await home.read();

    assert.deepEqual(logins.problems, []);
    assert.deepEqual(await logins.loginsFor(parseRepository("ghcr.io/a"), { signal }), [ben]);
    assert.deepEqual(await logins.loginsFor(parseRepository("ghcr.io/b"), { signal }), [ben]);
    assert.deepEqual(await logins.loginsFor(parseRepository("quay.io/b"), { signal }), [anna]);
    const asked = await readFile(join(home.path, "asked"), "utf8");
    assert.equal(asked, "get ghcr.io\n", "it is asked once");
  });

  test("asks credsStore for every other host, Docker Hub by its old address", async ({
    signal,
  }) => {
    await using home = await Home.make();
    await home.helper("desktop", `echo '{"Username":"<token>","Secret":"for-'"$host"'"}'`);
    await home.write(".docker/config.json", { credsStore: "desktop" });

    assert.deepEqual(await home.loginsFor("debian", signal), [
      { identityToken: "for-https://index.docker.io/v1/" },
    ]);
    assert.deepEqual(await home.loginsFor("localhost:5000/a", signal), [
      { identityToken: "for-localhost:5000" },
    ]);
  });

  test("has no login where the helper has none", async ({ signal }) => {
    await using home = await Home.make();
    await home.helper("empty", `echo "credentials not found in native keychain"; exit 1`);
    await home.write(".docker/config.json", { credsStore: "empty" });

    assert.deepEqual(await home.loginsFor("ghcr.io/a", signal), []);
  });

  const failures: Record<string, [script: string, code: string, reason: RegExp]> = {
    "a helper that fails": [
      `echo "barnacle is wrong"; exit 3`,
      "HELPER_FAILED",
      /failed: run "echo ghcr.io \| docker-credential-x get"/,
    ],
    "a helper that says no JSON": ["echo barnacle", "HELPER_FAILED", /did not write a JSON object/],
    "a helper that says too much": ["yes barnacle", "HELPER_FAILED", /wrote more than 65536 bytes/],
    "a helper without a user name": [
      `echo '{"Secret":"barnacle"}'`,
      "HELPER_FAILED",
      /gave no user name/,
    ],
    "a helper that takes too long": ["sleep 30", "HELPER_FAILED", /did not answer within 0.5 s/],
  };
  for (const [fact, [script, code, reason]] of Object.entries(failures)) {
    test(`names ${fact} and the registry, and nothing that it said`, async ({ signal }) => {
      await using home = await Home.make();
      await home.helper("x", script);
      await home.write(".docker/config.json", { credHelpers: { "ghcr.io": "x" } });
      const logins = await home.read({
        helperTimeoutMs: script.startsWith("sleep") ? 500 : 10_000,
      });

      await assert.rejects(logins.loginsFor(parseRepository("ghcr.io/a"), { signal }), (error) => {
        assert.ok(error instanceof CredentialHelperError);
        assert.equal(error.code, code);
        assert.match(error.message, reason);
        assert.match(error.reason, /"ghcr.io"/);
        assert.doesNotMatch(JSON.stringify(error) + error.message, /barnacle/);
        return true;
      });
    });
  }

  test("names a helper that is not there, and the file that names it", async ({ signal }) => {
    await using home = await Home.make();
    const path = await home.write(".docker/config.json", { credsStore: "nowhere" });

    await assert.rejects(home.loginsFor("ghcr.io/a", signal), {
      code: "HELPER_NOT_FOUND",
      message: `Cannot get the login for "ghcr.io": "docker-credential-nowhere", which ${path} names, is not on the PATH: install it, or take it out there`,
    });
  });

  test("gives up on a helper when it is aborted", async () => {
    await using home = await Home.make();
    await home.helper("slow", "sleep 30");
    await home.write(".docker/config.json", { credsStore: "slow" });
    const reason = new Error("Received SIGINT");
    const stop = new AbortController();
    const asking = home.loginsFor("ghcr.io/a", stop.signal);
    setImmediate(() => stop.abort(reason));

    await assert.rejects(asking, (error) => error === reason);
  });

  test("goes on without what it cannot read, and says so without quoting it", async ({
    signal,
  }) => {
    await using home = await Home.make();
    const path = await home.write(".docker/config.json", {
      auths: { "s3cret@x y": authOf(anna), "ghcr.io": { auth: "%s3cret%" }, "a.test": authOf(ben) },
      credHelpers: { "b.test": "../s3cret" },
      credsStore: "/s3cret",
    });
    home.env["REGISTRY_AUTH_FILE"] = await home.write("broken.json", "s3cret");
    const logins = await home.read();

    assert.deepEqual(await logins.loginsFor(parseRepository("a.test/a"), { signal }), [ben]);
    assert.equal(logins.problems.length, 5);
    assert.equal(logins.problems[0], `${home.path}/broken.json must be a JSON object`);
    assert.match(logins.problems[1] ?? "", new RegExp(`^${path}: login 1 must be for a host`));
    assert.match(logins.problems[2] ?? "", new RegExp(`^${path}: login 2 must have Base64`));
    assert.doesNotMatch(logins.problems.join(), /s3cret/);
  });
});
