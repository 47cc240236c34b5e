import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import type { Repository } from "#oci/reference.ts";
import type { LoginProviders } from "#secrets/repository-logins.ts";
import { anImage } from "#test/kinds.ts";
import { loginRevision, loginsProvided } from "./login-providers.ts";

const anna = { username: "anna", password: "anemone" };

/** A provider for `cloud.test`, which may take its time for some repositories. */
function cloud(delayMsOf: (repository: Repository) => number = () => 0): LoginProviders {
  return {
    revision: "cloud-1",
    isFor: ({ registry }) => registry === "cloud.test",
    loginsFor: async (repository, { signal }) => {
      const delayMs = delayMsOf(repository);
      if (delayMs > 0) await sleep(delayMs, undefined, { signal });
      return [anna];
    },
  };
}

function wants(...names: string[]): ReturnType<typeof anImage> {
  const repositories = names.map((name) => ({ name, listSelection: "listed" }) as const);
  return anImage({ repositories });
}

describe("loginRevision()", () => {
  test("is that of the Secrets if no provider is for the Image", () => {
    assert.equal(loginRevision(wants("one.test/a"), "s1", cloud()), "s1");
    assert.equal(loginRevision(wants("one.test/a"), undefined, cloud()), undefined);
  });

  test("is there without Secrets if a provider is for one of the repositories", () => {
    const image = wants("one.test/a", "cloud.test/a");

    assert.equal(loginRevision(image, undefined, cloud()), "cloud-1");
  });

  test("changes with the Secrets and with the providers", () => {
    const image = wants("cloud.test/a");
    const revisions = [
      loginRevision(image, undefined, cloud()),
      loginRevision(image, "s1", cloud()),
      loginRevision(image, "s2", cloud()),
      loginRevision(image, "s2", { ...cloud(), revision: "cloud-2" }),
    ];

    assert.equal(new Set(revisions).size, 4);
  });

  test("passes over a name that is none", () => {
    assert.equal(loginRevision(wants("UPPER", "cloud.test/a"), undefined, cloud()), "cloud-1");
    assert.equal(loginRevision(wants("UPPER"), undefined, cloud()), undefined);
  });
});

describe("loginsProvided()", () => {
  test("asks only for what a provider is for", async ({ signal }) => {
    const references = ["cloud.test/a:1", "one.test/a:1"];
    const { logins, late } = await loginsProvided(references, cloud(), {
      timeoutMs: 5_000,
      signal,
    });

    assert.deepEqual([...logins], [["cloud.test/a:1", [anna]]]);
    assert.equal(late.size, 0);
  });

  test("waits for none that takes too long, and gives what the others have", async ({ signal }) => {
    const slow = cloud(({ path }) => (path === "slow" ? 600_000 : 0));
    const references = ["cloud.test/slow:1", "cloud.test/a:1"];
    const { logins, late } = await loginsProvided(references, slow, { timeoutMs: 50, signal });

    assert.deepEqual([...logins.keys()], ["cloud.test/a:1"]);
    assert.deepEqual([...late], ["cloud.test/slow:1"]);
  });

  test("ends with the request", async () => {
    const stop = new AbortController();
    const options = { timeoutMs: 600_000, signal: stop.signal };
    const asking = loginsProvided(
      ["cloud.test/a:1"],
      cloud(() => 600_000),
      options,
    );
    stop.abort(new Error("nobody waits"));

    await assert.rejects(asking);
  });
});
