import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { formatDescriptor } from "#oci/manifest.ts";
import { FakeError, FakeRegistry, FakeRepository } from "#test/fake-repository.ts";
import { addImage } from "#test/images.ts";
import { formatRecord, ownershipTag, parseRecord } from "./ownership-record.ts";
import { Ownership } from "./ownership.ts";

const owner = { cluster: "c", namespace: "team", mirror: "app" };
const tag = ownershipTag(owner);
const a = `sha256:${"a".repeat(64)}`;
const b = `sha256:${"b".repeat(64)}`;
const now = new Date("2026-01-02T00:00:00Z");

/** Reads what is on record, without the class under test. */
async function recordIn(target: FakeRepository, signal: AbortSignal): Promise<object> {
  const manifest = await target.manifest(tag, { signal });
  const { layers } = JSON.parse(manifest?.bytes.toString() ?? "{}");
  const [{ mediaType, digest, size: sizeBytes }] = layers;
  const chunks = await Array.fromAsync(target.blob({ mediaType, digest, sizeBytes }, { signal }));
  const content = parseRecord(Buffer.concat(chunks));
  assert.deepEqual(content?.owner, owner);
  return Object.fromEntries(content.tags);
}

const writes = (target: FakeRepository): number =>
  target.asked("putManifest").filter((name) => name === tag).length;

function found(
  copied: Record<string, string>,
  unchanged: Record<string, string> = {},
): Parameters<Ownership["settle"]>[0] {
  return {
    copied: new Map(Object.entries(copied)),
    unchanged: new Map(Object.entries(unchanged)),
    selected: new Set([...Object.keys(copied), ...Object.keys(unchanged)]),
    isComplete: true,
  };
}

describe("Ownership", () => {
  test("keeps what is claimed and settled where the next run finds it", async ({ signal }) => {
    const target = new FakeRepository();
    const first = await Ownership.read(target, owner, { signal });
    await first.claim(["1", "2"], { signal });
    assert.deepEqual(await recordIn(target, signal), { 1: {}, 2: {} });
    await first.settle(found({ 1: a, 2: b, "there-before": a }), { now, signal });
    const second = await Ownership.read(target, owner, { signal });
    const leftovers = await second.settle(found({}, { 1: a }), { now, signal });

    assert.deepEqual(leftovers, [{ tag: "2", digest: b, unselectedSince: now }]);
    assert.deepEqual(
      ["1", "2", "there-before"].map((each) => second.digestOf(each)),
      [a, b, undefined],
    );
    assert.deepEqual(await recordIn(target, signal), {
      1: { digest: a },
      2: { digest: b, unselectedSince: now },
    });
  });

  test("keeps a tag that was moved by a run that was killed before it could settle", async ({
    signal,
  }) => {
    const target = new FakeRepository();
    const first = await Ownership.read(target, owner, { signal });
    await first.claim(["1"], { signal });
    await first.settle(found({ 1: a }), { now, signal });
    const killed = await Ownership.read(target, owner, { signal });
    await killed.claim(["1"], { signal });
    const third = await Ownership.read(target, owner, { signal });
    await third.settle(found({}, { 1: b }), { now, signal });

    assert.deepEqual(await recordIn(target, signal), { 1: { digest: b } });
  });

  test("writes an artifact that says what it is", async ({ signal }) => {
    const target = new FakeRepository();
    const ownership = await Ownership.read(target, owner, { signal });
    await ownership.claim(["1"], { signal });
    const { layers, config, ...rest } = JSON.parse(target.textOf(target.tagged(tag) ?? ""));

    assert.deepEqual(rest, {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      artifactType: "application/vnd.stvz.coral.ownership.v1+json",
    });
    assert.equal(config.mediaType, "application/vnd.oci.empty.v1+json");
    assert.equal(layers.length, 1);
  });

  test("writes nothing as long as nothing differs", async ({ signal }) => {
    const target = new FakeRepository();
    const ownership = await Ownership.read(target, owner, { signal });
    await ownership.settle(found({}, { 1: a }), { now, signal });
    await ownership.claim([], { signal });
    assert.equal(writes(target), 0);
    await ownership.claim(["1"], { signal });
    await ownership.claim(["1"], { signal });
    await ownership.settle(found({ 1: a }), { now, signal });
    const next = await Ownership.read(target, owner, { signal });
    await next.settle(found({}, { 1: a }), { now, signal });

    assert.equal(writes(target), 2);
  });

  test("writes what a thousand claim at once in two writes", async ({ signal }) => {
    const target = new FakeRepository();
    const ownership = await Ownership.read(target, owner, { signal });
    const tags = Array.from({ length: 1_000 }, (_, index) => `v${index}`);
    await Promise.all(tags.map((each) => ownership.claim([each], { signal })));

    assert.ok(writes(target) <= 2, `${writes(target)}`);
    assert.deepEqual(Object.keys(await recordIn(target, signal)).sort(), tags.toSorted());
  });

  test("tells everybody whose claim is not recorded, and nobody else", async ({ signal }) => {
    const target = new FakeRepository();
    const ownership = await Ownership.read(target, owner, { signal });
    target.fail("putManifest", tag, new FakeError("UNREACHABLE", { retryable: true }), 1);
    const outcomes = await Promise.allSettled([
      ownership.claim(["1"], { signal }),
      ownership.claim(["2"], { signal }),
    ]);

    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ["rejected", "fulfilled"],
    );
    assert.deepEqual(await recordIn(target, signal), { 2: {} });
  });

  test("adds to what another wrote in the meantime", async ({ signal }) => {
    const target = new FakeRepository();
    const [one, other] = [
      await Ownership.read(target, owner, { signal }),
      await Ownership.read(target, owner, { signal }),
    ];
    await one.claim(["1"], { signal });
    await other.claim(["2"], { signal });

    assert.deepEqual(await recordIn(target, signal), { 1: {}, 2: {} });
  });

  test("records what it wrote though its claim was lost", async ({ signal }) => {
    const target = new FakeRepository();
    const ownership = await Ownership.read(target, owner, { signal });
    await ownership.claim(["1", "2"], { signal });
    target.removeTag(tag);
    await ownership.settle(found({ 1: a, 3: a }), { now, signal });

    assert.deepEqual(await recordIn(target, signal), { 1: { digest: a } });
  });

  test("forgets what is gone, and that it was claimed", async ({ signal }) => {
    const target = new FakeRepository();
    const ownership = await Ownership.read(target, owner, { signal });
    await ownership.claim(["1", "2"], { signal });
    await ownership.settle(found({ 1: a, 2: a }), { now, signal });
    await ownership.forget([{ tag: "1", digest: a }], { signal });
    await ownership.settle(found({ 1: a, 2: a }), { now, signal });

    assert.deepEqual(await recordIn(target, signal), { 2: { digest: a } });
    await ownership.claim(["1"], { signal });
    assert.deepEqual(await recordIn(target, signal), { 1: {}, 2: { digest: a } });
  });

  test("begins anew where a record is damaged", async ({ signal }) => {
    for (const damage of ["lost", "other owner's words", "two layers"]) {
      const target = new FakeRepository();
      const bytes = damage === "lost" ? formatRecord({ owner, tags: new Map() }) : undefined;
      const layer = addRecord(target, bytes ?? Buffer.from("{}"), damage === "two layers" ? 2 : 1);
      if (damage === "lost") target.removeBlob(layer);
      const ownership = await Ownership.read(target, owner, { signal });
      await ownership.claim(["1"], { signal });

      assert.deepEqual(await recordIn(target, signal), { 1: {} }, damage);
    }
  });

  test("leaves alone what is no record, or another's", async ({ signal }) => {
    const image = new FakeRepository();
    addImage(image, ["an image"], { tag });
    const others = new FakeRepository();
    const bytes = formatRecord({ owner: { ...owner, mirror: "other" }, tags: new Map() });
    addRecord(others, bytes ?? Buffer.of());

    for (const target of [image, others]) {
      await assert.rejects(Ownership.read(target, owner, { signal }), {
        name: "OwnershipError",
        code: "NOT_A_RECORD",
        retryable: false,
      });
    }
  });

  test("records no more tags than a record has room for", async ({ signal }) => {
    const target = new FakeRepository();
    const ownership = await Ownership.read(target, owner, { signal });
    const tags = Array.from({ length: 40_001 }, (_, index) => `v${index}`);

    await assert.rejects(ownership.claim(tags, { signal }), { code: "RECORD_TOO_LARGE" });
    assert.equal(writes(target), 0);
  });

  test("says what the target says when it cannot be asked", async ({ signal }) => {
    const target = new FakeRegistry().repository("org/app");
    target.fail("manifest", tag, new FakeError("DENIED"));

    await assert.rejects(Ownership.read(target, owner, { signal }), { code: "DENIED" });
  });
});

/** @returns the digest of the layer. */
function addRecord(target: FakeRepository, bytes: Buffer, layers = 1): string {
  const layer = target.addBlob(bytes, "application/vnd.stvz.coral.ownership.v1+json");
  const value = {
    schemaVersion: 2,
    artifactType: "application/vnd.stvz.coral.ownership.v1+json",
    config: formatDescriptor(target.addBlob("{}", "application/vnd.oci.empty.v1+json")),
    layers: Array.from({ length: layers }, () => formatDescriptor(layer)),
  };
  target.addManifest(value, { tag });
  return layer.digest;
}
