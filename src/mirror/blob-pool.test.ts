import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { FakeError, FakeRegistry, type FakeRepository } from "#test/fake-repository.ts";
import { FairSlots } from "./fair-slots.ts";
import { BlobPool, type BlobRequest } from "./blob-pool.ts";

interface Scene {
  pool: BlobPool;
  registry: FakeRegistry;
  request: (source: FakeRepository, path: string, more?: Partial<BlobRequest>) => BlobRequest;
}

function aScene(signal: AbortSignal): Scene {
  const registry = new FakeRegistry("target.test");
  const slots = new FairSlots(4);
  return {
    pool: new BlobPool({ signal }),
    registry,
    request: (source, path, more = {}) => ({
      source,
      target: { repository: registry.repository(path), path },
      descriptor: source.addBlob("layer"),
      slots,
      parties: [],
      signal,
      onProgress: () => undefined,
      ...more,
    }),
  };
}

const aSource = (host: string): FakeRepository => new FakeRegistry(host).repository("org/app");

describe("BlobPool", () => {
  test("says how a blob came, and asks no more about what is there", async ({ signal }) => {
    const { pool, registry, request } = aScene(signal);
    const source = aSource("source.test");
    const outcomes = [
      await pool.provide(request(source, "a")),
      await pool.provide(request(source, "b")),
      await pool.provide(request(source, "a")),
    ];

    assert.deepEqual(outcomes, ["copied", "mounted", "skipped"]);
    assert.equal(registry.repository("a").asked("hasBlob").length, 1);
  });

  test("does not wait for another host's copy of the same blob", async ({ signal }) => {
    const { pool, request } = aScene(signal);
    const [slow, fast] = [aSource("slow.test"), aSource("fast.test")];
    const stuck = request(slow, "a", { slots: new FairSlots(1) });
    const release = slow.holdBlob(stuck.descriptor.digest);
    const waiting = pool.provide(stuck);

    assert.equal(await pool.provide(request(fast, "b")), "copied");
    release();
    assert.equal(await waiting, "copied");
  });

  test("tries again what failed for a while", async ({ signal }) => {
    const { pool, request } = aScene(signal);
    const source = aSource("source.test");
    const wanted = request(source, "a");
    const error = new FakeError("UNREACHABLE");
    source.fail("blob", wanted.descriptor.digest, error, 1);
    await assert.rejects(pool.provide(wanted), (thrown) => thrown === error);

    assert.equal(await pool.provide(wanted), "copied");
  });

  test("ends with its own run while another run brings the same blob", async ({ signal }) => {
    const { pool, request } = aScene(signal);
    const source = aSource("source.test");
    const first = request(source, "a");
    const release = source.holdBlob(first.descriptor.digest);
    const slow = pool.provide(first);
    while (source.asked("blob").length === 0) await new Promise(setImmediate);
    const stop = new AbortController();
    const beside = new BlobPool({ signal: stop.signal, beside: pool });
    const waiting = beside.provide(request(source, "b", { signal: stop.signal }));
    const reason = new Error("the shard is another worker's");
    stop.abort(reason);
    await assert.rejects(waiting, (error) => error === reason);

    release();
    assert.equal(await slow, "copied");
  });

  test("goes on for one tag when another, which began it, ends", async ({ signal }) => {
    const { pool, registry, request } = aScene(signal);
    const source = aSource("source.test");
    const stop = new AbortController();
    const first = request(source, "a", { signal: stop.signal });
    const release = source.holdBlob(first.descriptor.digest);
    const copies = [pool.provide(first), pool.provide(request(source, "a"))];
    while (source.asked("blob").length === 0) await new Promise(setImmediate);
    stop.abort(new Error("that tag failed"));
    release();

    assert.deepEqual(await Promise.all(copies), ["copied", "skipped"]);
    assert.equal(registry.repository("a").asked("writeBlob").length, 1);
  });

  test("does not hold a manifest's wrong size of a blob against those that have it right", async ({
    signal,
  }) => {
    const { pool, request } = aScene(signal);
    const source = aSource("source.test");
    const right = request(source, "a");
    const { descriptor } = right;
    const wrong = { ...right, descriptor: { ...descriptor, sizeBytes: descriptor.sizeBytes + 1 } };
    const [refused, provided] = await Promise.allSettled([
      pool.provide(wrong),
      pool.provide(right),
    ]);

    assert.equal(refused.status, "rejected");
    assert.equal(provided.status === "fulfilled" && provided.value, "copied");
    await assert.rejects(pool.provide({ ...wrong, target: { ...wrong.target, path: "b" } }));
    assert.equal(await pool.provide(request(source, "b")), "mounted");
  });
});

describe("BlobPool beside another", () => {
  test("takes over what the other one brought, and forgets with it", async ({ signal }) => {
    const { pool, registry, request } = aScene(signal);
    const source = aSource("source.test");
    await pool.provide(request(source, "a"));
    const beside = new BlobPool({ signal, beside: pool });

    assert.equal(await beside.provide(request(source, "b")), "mounted");
    beside.forget("b");
    registry.repository("b").removeBlob(request(source, "b").descriptor.digest);
    assert.equal(await pool.provide(request(source, "b")), "mounted", "it is looked at again");
    pool.forget("a");
    pool.forget("b");
    assert.equal(await pool.provide(request(source, "c")), "copied");
  });

  test("goes on when the other one is aborted in mid-blob", async ({ signal }) => {
    const { registry, request } = aScene(signal);
    const source = aSource("source.test");
    const stop = new AbortController();
    const pool = new BlobPool({ signal: stop.signal });
    const beside = new BlobPool({ signal, beside: pool });
    const held = request(source, "a", { signal: stop.signal });
    const release = source.holdBlob(held.descriptor.digest);
    const first = pool.provide(held);
    const second = beside.provide({ ...request(source, "b"), slots: held.slots });
    const reason = new Error("enough");
    stop.abort(reason);
    release();

    await assert.rejects(first, (error) => error === reason);
    assert.equal(await second, "copied");
    assert.deepEqual(registry.repository("b").digests(), [held.descriptor.digest]);
  });
});
