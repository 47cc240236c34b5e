import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Descriptor } from "#oci/content.ts";
import { fallbackTag } from "#oci/manifest.ts";
import {
  FakeError,
  FakeRegistry,
  type FakeRepository,
  type Removes,
} from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import { Ownership } from "./ownership.ts";
import { removeCopies, type Copy, type RemovalResult } from "./removal.ts";

const owner = { cluster: "c", namespace: "team", mirror: "app" };
const now = new Date("2026-01-02T00:00:00Z");

function aTarget(removes: Removes, options: { hasReferrersApi?: boolean } = {}): FakeRepository {
  return new FakeRegistry("target.test", { removes, ...options }).repository("org/app");
}

/** Records tags as they are. */
async function record(
  target: FakeRepository,
  tags: readonly string[],
  {
    signal,
    by = owner,
    selected = [],
  }: { signal: AbortSignal; by?: typeof owner; selected?: string[] },
): Promise<Ownership> {
  const ownership = await Ownership.read(target, by, { signal });
  await ownership.claim(tags, { signal });
  const copied = new Map(tags.map((tag) => [tag, target.tagged(tag) ?? ""]));
  const found = { copied, unchanged: new Map(), isComplete: true };
  await ownership.settle({ ...found, selected: new Set(selected) }, { now, signal });
  return ownership;
}

async function remove(
  target: FakeRepository,
  approved: Record<string, Descriptor | string>,
  options: { signal: AbortSignal; ownership: Ownership; selected?: readonly string[] },
): Promise<Omit<RemovalResult, "kept"> & { kept: object }> {
  const { selected = [], ...rest } = options;
  const copies: Copy[] = Object.entries(approved).map(([tag, named]) => ({
    tag,
    digest: typeof named === "string" ? named : named.digest,
  }));
  const answer = await removeCopies(target, copies, { ...rest, selected: new Set(selected) });
  return { ...answer, kept: Object.fromEntries(answer.kept) };
}

describe("removeCopies()", () => {
  test("removes copies by their tags, and takes them off the record", async ({ signal }) => {
    const target = aTarget("tags and digests");
    const image = addImage(target, ["1"], { tag: "1" });
    addImage(target, ["1"], { tag: "latest" });
    const ownership = await record(target, ["1"], { signal });
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer, { removed: ["1"], isUnsupported: false, kept: {} });
    assert.equal(target.tagged("1"), undefined);
    assert.equal(target.tagged("latest"), image.digest);
    const again = await Ownership.read(target, owner, { signal });
    assert.equal(again.digestOf("1"), undefined);
  });

  test("asks for nothing when nothing is approved that it may remove", async ({ signal }) => {
    const target = aTarget("tags and digests");
    const image = addImage(target, ["1"], { tag: "1" });
    addImage(target, ["2"], { tag: "2" });
    const ownership = await record(target, ["2"], { signal });
    const before = target.log.length;
    const approved = { 1: image, 2: target.tagged("2") ?? "", 3: image };
    const answer = await remove(target, approved, { ownership, selected: ["2"], signal });

    assert.deepEqual(answer, {
      removed: [],
      isUnsupported: false,
      kept: { 1: "NOT_RECORDED", 2: "SELECTED", 3: "NOT_RECORDED" },
    });
    assert.equal(target.log.length, before);
  });

  test("leaves a tag that was approved with another digest than is recorded", async ({
    signal,
  }) => {
    const target = aTarget("tags and digests");
    const old = addImage(target, ["old"]);
    const image = addImage(target, ["1"], { tag: "1" });
    const ownership = await record(target, ["1"], { signal });
    const answer = await remove(target, { 1: old }, { ownership, signal });

    assert.deepEqual(answer.kept, { 1: "NOT_RECORDED" });
    assert.equal(target.tagged("1"), image.digest);
  });

  test("leaves a tag that somebody moved, and lets go of it", async ({ signal }) => {
    const target = aTarget("tags and digests");
    const image = addImage(target, ["1"], { tag: "1" });
    const ownership = await record(target, ["1"], { signal });
    const other = addImage(target, ["by somebody"], { tag: "1" });
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer, { removed: [], isUnsupported: false, kept: { 1: "MOVED" } });
    assert.equal(target.tagged("1"), other.digest);
    assert.equal(ownership.digestOf("1"), undefined);
  });

  test("counts a tag as removed that is gone already", async ({ signal }) => {
    const target = aTarget("nothing");
    const image = addImage(target, ["1"], { tag: "1" });
    const ownership = await record(target, ["1"], { signal });
    target.removeTag("1");
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer, { removed: ["1"], isUnsupported: false, kept: {} });
    assert.equal(ownership.digestOf("1"), undefined);
  });

  test("leaves what another owner wrote, too, until that one no longer asks for it", async ({
    signal,
  }) => {
    const target = aTarget("tags and digests");
    const image = addImage(target, ["1"], { tag: "1" });
    const other = { ...owner, cluster: "d" };
    await record(target, ["1"], { signal, by: other, selected: ["1"] });
    const ownership = await record(target, ["1"], { signal });
    const first = await remove(target, { 1: image }, { ownership, signal });
    await record(target, ["1"], { signal, by: other });
    const second = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(first.kept, { 1: "WANTED" });
    assert.deepEqual(second.removed, ["1"]);
  });

  test("is not held up by a tag that only looks like another's record", async ({ signal }) => {
    const target = aTarget("tags and digests");
    const image = addImage(target, ["1"], { tag: "1" });
    addImage(target, ["no record"], { tag: `coral-mirror.${"0".repeat(16)}` });
    const ownership = await record(target, ["1"], { signal });
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer.removed, ["1"]);
  });

  test("removes by digest where tags cannot be removed", async ({ signal }) => {
    const target = aTarget("digests");
    const image = addImage(target, ["1"], { tag: "1" });
    addImage(target, ["1"], { tag: "1.0" });
    const ownership = await record(target, ["1", "1.0"], { signal });
    const answer = await remove(target, { 1: image, "1.0": image }, { ownership, signal });

    assert.deepEqual(answer, { removed: ["1", "1.0"], isUnsupported: false, kept: {} });
    assert.equal(target.digests().includes(image.digest), false);
  });

  const needs: Record<string, (target: FakeRepository, image: Descriptor) => readonly string[]> = {
    "another tag names": (target) => {
      addImage(target, ["1"], { tag: "by-hand" });
      return [];
    },
    "another tag names that is on record": (target) => {
      addImage(target, ["1"], { tag: "latest" });
      return ["latest"];
    },
    "an index contains": (target, descriptor) => {
      addIndex(target, "index", [{ descriptor }]);
      return [];
    },
    "an index in an index contains": (target, image) => {
      addIndex(target, "outer", [{ descriptor: addIndex(target, "", [{ descriptor: image }]) }]);
      return [];
    },
    "a tag refers to": (target, subject) => {
      addImage(target, ["bill of materials"], { tag: "sbom", subject });
      return [];
    },
    "a tag refers to something that refers to": (target, subject) => {
      const sbom = addImage(target, ["bill of materials"], { subject });
      addImage(target, ["signature"], { tag: "signature", subject: sbom });
      return [];
    },
    "is asked for by its digest": (_, { digest }) => [digest],
    "something that is asked for by its digest contains": (target, descriptor) => [
      addIndex(target, "", [{ descriptor }]).digest,
    ],
  };
  for (const [fact, add] of Object.entries(needs)) {
    test(`keeps a digest that ${fact}`, async ({ signal }) => {
      const target = aTarget("digests");
      const image = addImage(target, ["1"], { tag: "1" });
      const others = add(target, image);
      const tags = others.filter((name) => !name.includes(":"));
      const ownership = await record(target, ["1", ...tags], { signal });
      const answer = await remove(target, { 1: image }, { ownership, selected: others, signal });

      assert.deepEqual(answer, { removed: [], isUnsupported: false, kept: { 1: "NEEDED" } });
      assert.equal(target.tagged("1"), image.digest);
      assert.equal(ownership.digestOf("1"), image.digest);
    });
  }

  test("keeps a digest to which more refer than it looks at", async ({ signal }) => {
    const target = aTarget("digests");
    const subject = addImage(target, ["1"], { tag: "1" });
    for (let index = 0; index < 1_001; index++) addImage(target, [`${index}`], { subject });
    const ownership = await record(target, ["1"], { signal });
    const answer = await remove(target, { 1: subject }, { ownership, signal });

    assert.deepEqual(answer.kept, { 1: "NEEDED" });
  });

  test("keeps what is in an index that was signed, and has no tag by now", async ({ signal }) => {
    const target = aTarget("digests");
    const image = addImage(target, ["1"], { tag: "1" });
    const index = addIndex(target, "", [{ descriptor: image }]);
    addImage(target, ["signature"], { tag: `${fallbackTag(index.digest)}.sig` });
    const ownership = await record(target, ["1"], { signal });
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer.kept, { 1: "NEEDED" });
  });

  test("keeps a digest while there is an index that cannot be read", async ({ signal }) => {
    const target = aTarget("digests", { hasReferrersApi: false });
    const image = addImage(target, ["1"], { tag: "1" });
    const manifests = [{ mediaType: "text/plain" }];
    target.addManifest({ schemaVersion: 2, manifests }, { tag: "strange" });
    const ownership = await record(target, ["1"], { signal });
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer.kept, { 1: "NEEDED" });
  });

  test("keeps what is in an index that stays for something that refers to it", async ({
    signal,
  }) => {
    const target = aTarget("digests");
    const image = addImage(target, ["1"], { tag: "1" });
    const index = addIndex(target, "index", [{ descriptor: image }]);
    addImage(target, ["bill of materials"], { tag: "sbom", subject: index });
    const ownership = await record(target, ["1", "index"], { signal });
    const answer = await remove(target, { 1: image, index }, { ownership, signal });

    assert.deepEqual(answer.kept, { 1: "NEEDED", index: "NEEDED" });
  });

  /** Each puts in what goes first as `2`, and what goes after it as `1`. */
  const orders: Record<string, (target: FakeRepository) => void> = {
    "an index before what is in it": (target) => {
      addIndex(target, "2", [{ descriptor: addImage(target, ["1"], { tag: "1" }) }]);
    },
    "an index before an index in it": (target) => {
      const image = addImage(target, ["image"]);
      addIndex(target, "2", [{ descriptor: addIndex(target, "1", [{ descriptor: image }]) }]);
    },
    "a manifest before what it refers to": (target) => {
      addImage(target, ["2"], { tag: "2", subject: addImage(target, ["1"], { tag: "1" }) });
    },
    "a manifest before what its signature refers to": (target) => {
      const subject = addImage(target, ["1"], { tag: "1" });
      const { digest } = addImage(target, ["2"], { tag: "2" });
      addImage(target, ["signature"], { tag: `${fallbackTag(digest)}.sig`, subject });
    },
  };
  for (const [fact, add] of Object.entries(orders)) {
    const prepare = async (
      signal: AbortSignal,
    ): Promise<{ target: FakeRepository; first: string; next: string; ownership: Ownership }> => {
      const target = aTarget("digests");
      add(target);
      const ownership = await record(target, ["1", "2"], { signal });
      const [next = "", first = ""] = [target.tagged("1"), target.tagged("2")];
      return { target, first, next, ownership };
    };

    test(`removes ${fact}`, async ({ signal }) => {
      const { target, first, next, ownership } = await prepare(signal);
      const answer = await remove(target, { 1: next, 2: first }, { ownership, signal });

      assert.deepEqual(answer.removed, ["1", "2"]);
      assert.deepEqual(target.asked("deleteManifest").slice(-2), [first, next]);
    });

    test(`removes ${fact}, and not that when the first is protected`, async ({ signal }) => {
      const { target, first, next, ownership } = await prepare(signal);
      target.fail("deleteManifest", first, new FakeError("DENIED"));
      const answer = await remove(target, { 1: next, 2: first }, { ownership, signal });

      assert.deepEqual(answer.kept, { 1: "NEEDED", 2: "REFUSED" });
      assert.equal(target.tagged("1"), next);
    });

    test(`removes ${fact}, and not that when it breaks off`, async ({ signal }) => {
      const { target, first, next, ownership } = await prepare(signal);
      target.fail("deleteManifest", first, new FakeError("UNREACHABLE", { retryable: true }));
      const answer = remove(target, { 1: next, 2: first }, { ownership, signal });

      await assert.rejects(answer, { code: "UNREACHABLE" });
      assert.equal(target.tagged("1"), next);
    });
  }

  test("keeps what is in an index in an index that is protected", async ({ signal }) => {
    const target = aTarget("digests");
    const image = addImage(target, ["1"], { tag: "1" });
    const inner = addIndex(target, "2", [{ descriptor: image }]);
    const outer = addIndex(target, "3", [{ descriptor: inner }]);
    const ownership = await record(target, ["1", "2", "3"], { signal });
    target.fail("deleteManifest", outer.digest, new FakeError("DENIED"));
    const answer = await remove(target, { 1: image, 2: inner, 3: outer }, { ownership, signal });

    assert.deepEqual(answer.kept, { 1: "NEEDED", 2: "NEEDED", 3: "REFUSED" });
  });

  test("keeps manifests whose signatures refer to one another's, and what is in them", async ({
    signal,
  }) => {
    const target = aTarget("digests");
    const image = addImage(target, ["1"], { tag: "1" });
    const index = addIndex(target, "2", [{ descriptor: image }]);
    const other = addImage(target, ["3"], { tag: "3" });
    addImage(target, ["a"], { tag: `${fallbackTag(index.digest)}.sig`, subject: other });
    addImage(target, ["b"], { tag: `${fallbackTag(other.digest)}.sig`, subject: index });
    const ownership = await record(target, ["1", "2", "3"], { signal });
    const answer = await remove(target, { 1: image, 2: index, 3: other }, { ownership, signal });

    assert.deepEqual(answer.kept, { 1: "NEEDED", 2: "NEEDED", 3: "NEEDED" });
  });

  test("looks at no further tags once it knows that all are needed", async ({ signal }) => {
    const target = aTarget("digests");
    const image = addImage(target, ["1"], { tag: "1" });
    for (let index = 0; index < 100; index++) addImage(target, [`${index}`], { tag: `a${index}` });
    addImage(target, ["1"], { tag: "zzz" });
    const ownership = await record(target, ["1", "zzz"], { signal });
    const before = target.asked("find").length;
    await remove(target, { 1: image }, { ownership, signal });

    assert.ok(target.asked("find").length - before < 20);
  });

  test("takes a signature along that is on record, and leaves one that is not", async ({
    signal,
  }) => {
    for (const removes of ["tags and digests", "digests"] as const) {
      const target = aTarget(removes);
      const image = addImage(target, ["1"], { tag: "1" });
      const signature = `${fallbackTag(image.digest)}.sig`;
      const other = `${fallbackTag(image.digest)}.att`;
      addImage(target, ["signature"], { tag: signature });
      addImage(target, ["attestation"], { tag: other });
      const ownership = await record(target, ["1", signature], { signal });
      const answer = await remove(target, { 1: image }, { ownership, signal });

      assert.deepEqual(answer.removed, ["1"]);
      assert.equal(target.tagged(signature), undefined, removes);
      assert.notEqual(target.tagged(other), undefined, removes);
      assert.equal(ownership.digestOf(signature), undefined);
    }
  });

  test("leaves the signature of an image that another tag names", async ({ signal }) => {
    const target = aTarget("tags and digests");
    const image = addImage(target, ["1"], { tag: "1" });
    addImage(target, ["1"], { tag: "latest" });
    const signature = `${fallbackTag(image.digest)}.sig`;
    addImage(target, ["signature"], { tag: signature });
    const ownership = await record(target, ["1", signature], { signal });
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer.removed, ["1"]);
    assert.notEqual(target.tagged(signature), undefined);
  });

  test("says that the registry removes nothing, without looking at all tags", async ({
    signal,
  }) => {
    const target = aTarget("nothing");
    const image = addImage(target, ["1"], { tag: "1" });
    for (let index = 0; index < 100; index++) addImage(target, [`${index}`], { tag: `a${index}` });
    const ownership = await record(target, ["1"], { signal });
    const before = target.asked("find").length;
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer, { removed: [], isUnsupported: true, kept: { 1: "REFUSED" } });
    assert.ok(target.asked("find").length - before < 5);
    assert.equal(ownership.digestOf("1"), image.digest);
  });

  test("says so, too, where the login may not remove anything", async ({ signal }) => {
    const target = aTarget("tags and digests");
    const image = addImage(target, ["1"], { tag: "1" });
    const ownership = await record(target, ["1"], { signal });
    for (const name of ["1", `sha256:${"0".repeat(64)}`]) {
      target.fail("deleteManifest", name, new FakeError("DENIED"));
    }
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer, { removed: [], isUnsupported: true, kept: { 1: "REFUSED" } });
  });

  test("leaves a tag that is protected, and removes the others", async ({ signal }) => {
    for (const removes of ["tags and digests", "digests"] as const) {
      const target = aTarget(removes);
      const [one, two] = [
        addImage(target, ["1"], { tag: "1" }),
        addImage(target, ["2"], { tag: "2" }),
      ];
      const ownership = await record(target, ["1", "2"], { signal });
      const name = removes === "digests" ? one.digest : "1";
      target.fail("deleteManifest", name, new FakeError("DENIED"));
      const answer = await remove(target, { 1: one, 2: two }, { ownership, signal });

      assert.deepEqual(answer, { removed: ["2"], isUnsupported: false, kept: { 1: "REFUSED" } });
    }
  });

  test("removes by tag, but nothing by digest, from among more than 10,000 tags", async ({
    signal,
  }) => {
    for (const removes of ["tags and digests", "digests"] as const) {
      const target = aTarget(removes);
      const image = addImage(target, ["1"], { tag: "1" });
      const value = JSON.parse(target.textOf(image.digest));
      for (let index = 0; index < 10_000; index++) target.addManifest(value, { tag: `v${index}` });
      const ownership = await record(target, ["1"], { signal });
      const before = target.asked("find").length;
      const answer = await remove(target, { 1: image }, { ownership, signal });

      assert.deepEqual(
        answer,
        removes === "digests"
          ? { removed: [], isUnsupported: true, kept: { 1: "TOO_MANY" } }
          : { removed: ["1"], isUnsupported: false, kept: {} },
      );
      assert.ok(target.asked("find").length - before < 5);
    }
  });

  test("removes nothing where there are more owners than it reads records of", async ({
    signal,
  }) => {
    const target = aTarget("tags and digests");
    const image = addImage(target, ["1"], { tag: "1" });
    for (let index = 0; index < 65; index++) {
      addImage(target, ["record"], { tag: `coral-mirror.${index.toString(16).padStart(16, "0")}` });
    }
    const ownership = await record(target, ["1"], { signal });
    const answer = await remove(target, { 1: image }, { ownership, signal });

    assert.deepEqual(answer, { removed: [], isUnsupported: false, kept: { 1: "TOO_MANY" } });
  });

  test("leaves on record what is gone when it breaks off, and makes up for it", async ({
    signal,
  }) => {
    const target = aTarget("tags and digests");
    const [one, two] = [
      addImage(target, ["1"], { tag: "1" }),
      addImage(target, ["2"], { tag: "2" }),
    ];
    const ownership = await record(target, ["1", "2"], { signal });
    target.fail("deleteManifest", "2", new FakeError("UNREACHABLE", { retryable: true }), 1);
    await assert.rejects(remove(target, { 1: one, 2: two }, { ownership, signal }));
    const next = await Ownership.read(target, owner, { signal });

    assert.deepEqual([next.digestOf("1"), next.digestOf("2")], [one.digest, two.digest]);
    const answer = await remove(target, { 1: one, 2: two }, { ownership: next, signal });
    assert.deepEqual(answer.removed, ["1", "2"]);
  });

  test("stops with the reason why it is to stop", async ({ signal }) => {
    const target = aTarget("tags and digests");
    const image = addImage(target, ["1"], { tag: "1" });
    const ownership = await record(target, ["1"], { signal });
    const reason = new Error("enough");
    const answer = remove(target, { 1: image }, { ownership, signal: AbortSignal.abort(reason) });

    await assert.rejects(answer, (error) => error === reason);
    assert.equal(target.tagged("1"), image.digest);
  });
});
