import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";

import { RegistryError } from "#remote/registry-error.ts";
import { lookupFailure, lookUpImage, lookUpTags, type RegistryLookup } from "./registry-lookup.ts";

const debian = "docker.io/library/debian:bookworm";
const [digestA = "", digestB = ""] = ["a", "b"].map((digit) => `sha256:${digit.repeat(64)}`);

/** A registry with one image, of these sizes. */
function aRegistry(
  digest: string,
  sizes: Readonly<Record<string, number>> = {},
): { registry: RegistryLookup; asked: string[] } {
  const asked: string[] = [];
  const registry: RegistryLookup = {
    resolve: async () => {
      asked.push("HEAD");
      return { digest };
    },
    sizes: async (_reference, _digest, { isWanted }) => {
      const wanted = Object.entries(sizes).filter(([platform]) => isWanted(platform));
      asked.push("GET");
      return wanted.map(([platform, sizeBytes]) => ({ platform, sizeBytes }));
    },
    tags: async () => ["3", "2", "1"],
  };
  return { registry, asked };
}

describe("lookUpImage()", () => {
  const scope = { logins: [], signal: new AbortController().signal };
  const platforms = new Set(["linux/amd64", "linux/arm64"]);

  test("takes the largest variant of each platform that nodes have, and no other", async () => {
    const sizes = {
      "linux/amd64": 10,
      "linux/arm64/v8": 11,
      "linux/arm64/v9": 12,
      "linux/s390x": 13,
      "windows/amd64": 99,
    };
    const { registry } = aRegistry(digestA, sizes);
    const options = { ...scope, platforms, known: undefined };
    assert.deepEqual(await lookUpImage(registry, debian, options), {
      digest: digestA,
      sizes: [
        { platform: "linux/amd64", sizeBytes: 10 },
        { platform: "linux/arm64", sizeBytes: 12 },
      ],
      platforms,
    });
  });

  test("reads no sizes of what it knows", async () => {
    const sizes = [{ platform: "linux/amd64", sizeBytes: 10 }];
    const known = { digest: digestA, sizes, platforms };
    for (const [digest, expected] of [
      [digestA, ["HEAD"]],
      [digestB, ["HEAD", "GET"]],
    ] as const) {
      const { registry, asked } = aRegistry(digest);
      await lookUpImage(registry, debian, { ...scope, platforms, known });
      assert.deepEqual(asked, expected);
    }
  });

  test("reads the sizes for a platform that it was not asked for, once", async () => {
    const { registry, asked } = aRegistry(digestA, { "linux/amd64": 10, "linux/arm64": 12 });
    const amd64 = new Set(["linux/amd64"]);
    const first = await lookUpImage(registry, debian, {
      ...scope,
      platforms: amd64,
      known: undefined,
    });
    const second = await lookUpImage(registry, debian, { ...scope, platforms, known: first });
    await lookUpImage(registry, debian, { ...scope, platforms: amd64, known: second });

    assert.deepEqual(
      [first, second].map(({ sizes }) => sizes.map(({ sizeBytes }) => sizeBytes)),
      [[10], [10, 12]],
    );
    assert.deepEqual(asked, ["HEAD", "GET", "HEAD", "GET", "HEAD"]);
  });

  test("ends with its caller", async () => {
    const { registry } = aRegistry(digestA);
    const stop = new AbortController();
    const silent: RegistryLookup = {
      ...registry,
      resolve: async (_reference, { signal }) => {
        await once(signal, "abort");
        throw signal.reason;
      },
    };
    const options = { logins: [], platforms, known: undefined, signal: stop.signal };
    const asking = lookUpImage(silent, debian, options);
    stop.abort(new Error("The test is over"));
    await assert.rejects(asking, /The test is over/);
  });
});

describe("lookUpTags()", () => {
  test("takes the tags that the filter takes", async () => {
    const { registry } = aRegistry(digestA);
    const { signal } = new AbortController();
    const options = { logins: [], filter: { newest: 2 }, signal };
    assert.deepEqual(await lookUpTags(registry, "debian", options), ["3", "2"]);
  });
});

describe("lookupFailure()", () => {
  test("calls it as the agents do, in the registry's words, and passes its wish for quiet on", () => {
    const error = new RegistryError("THROTTLED", "slow down", { retryAfterMs: 7_000 });
    assert.deepEqual(lookupFailure(error), {
      reason: "Throttled",
      message: "slow down",
      retryAfterMs: 7_000,
    });
  });

  test("throws what is no fault of a registry", () => {
    assert.throws(() => lookupFailure(new TypeError("a bug")), TypeError);
  });
});
