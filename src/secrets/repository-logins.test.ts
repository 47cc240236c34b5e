import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { parseRepository } from "#oci/reference.ts";
import { repositoryLogins } from "./repository-logins.ts";

const anna = { username: "anna", password: "anemone" };
const ben = { username: "ben", password: "barnacle" };
const cloud = { username: "cloud", password: "coral" };
const repository = parseRepository("one.test/a/app");

describe("repositoryLogins()", () => {
  test("puts logins of Secrets before those of providers, and none for other hosts", async ({
    signal,
  }) => {
    const entries = [
      { registry: "one.test", path: "", login: anna },
      { registry: "two.test", path: "", login: anna },
      { registry: "one.test", path: "a", login: ben },
    ];
    const providers = { loginsFor: async () => [cloud] };

    assert.deepEqual(await repositoryLogins(repository, { entries, providers }, { signal }), [
      ben,
      anna,
      cloud,
    ]);
  });

  test("gives no more than eight, however many Secrets hold", async ({ signal }) => {
    const entries = Array.from({ length: 100 }, (_, index) => {
      const login = { username: `user${index}`, password: "reef" };
      return { registry: "one.test", path: "", login };
    });
    const providers = { loginsFor: async () => [cloud] };
    const logins = await repositoryLogins(repository, { entries, providers }, { signal });

    assert.equal(logins.length, 8);
  });

  test("rejects with the reason if aborted while a provider is asked", async () => {
    const stop = new AbortController();
    const gone = new Error("nobody waits");
    const providers = {
      loginsFor: async (_: unknown, { signal }: { signal: AbortSignal }) => {
        stop.abort(gone);
        signal.throwIfAborted();
        return [];
      },
    };

    await assert.rejects(
      repositoryLogins(repository, { entries: [], providers }, { signal: stop.signal }),
      gone,
    );
  });
});
