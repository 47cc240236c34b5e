import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { MirrorShard, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { mirrorShards } from "#api/v1/resources.ts";
import { KubeClient } from "#kube/client.ts";
import { ConflictError } from "#kube/errors.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { ShardWriter } from "./shard-writer.ts";

const key = "team/app-1";

function aStatus(more: Partial<MirrorShardStatus> = {}): MirrorShardStatus {
  return { tags: 1, synced: 0, pending: 1, failed: 0, throttled: 0, bytesCopied: 0, ...more };
}

const claimed = aStatus({ worker: "me" });

/** A server with one shard, and writers that know it as it is now. */
class Scene implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly #client: KubeClient;

  private constructor(server: FakeApiServer) {
    this.server = server;
    this.#client = new KubeClient({ config: server.config, log: silentLog, userAgent: "test" });
  }

  static async start(): Promise<Scene> {
    const server = await FakeApiServer.start({ resources: [mirrorShards] });
    server.create(mirrorShards, aMirrorShard());
    return new Scene(server);
  }

  get shard(): MirrorShard {
    return mirrorShards.parse(this.server.get(mirrorShards, key));
  }

  aWriter(): ShardWriter {
    return new ShardWriter(this.shard, { client: this.#client, identity: "me" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

describe("ShardWriter", () => {
  test("claims with one write, however often it is asked to", async ({ signal }) => {
    await using scene = await Scene.start();
    const writer = scene.aWriter();
    await Promise.all([1, 2, 3].map(() => writer.claim(() => claimed, { signal })));
    await writer.update({ ...claimed, synced: 1, pending: 0 }, { signal });
    await writer.finish(aStatus({ synced: 1 }), { signal });

    assert.deepEqual(
      scene.server.requests.map(({ method }) => method),
      ["PUT", "PUT", "PUT"],
    );
    assert.deepEqual(scene.shard.status, aStatus({ synced: 1 }));
    assert.equal(writer.isClaimed, false);
  });

  test("claims again when the API server could not be asked", async ({ signal }) => {
    await using scene = await Scene.start();
    const writer = scene.aWriter();
    scene.server.fail({ status: 503 });
    await assert.rejects(writer.claim(() => claimed, { signal }));
    assert.equal(writer.isClaimed, false);
    await writer.claim(() => claimed, { signal });

    assert.deepEqual(scene.shard.status, claimed);
  });

  test("gives up at once where somebody else was first", async ({ signal }) => {
    await using scene = await Scene.start();
    const [late, later] = [scene.aWriter(), scene.aWriter()];
    scene.server.merge(mirrorShards, key, { status: aStatus({ worker: "other" }) });

    await assert.rejects(
      late.claim(() => claimed, { signal }),
      ConflictError,
    );
    await assert.rejects(later.finish(aStatus(), { signal }), ConflictError);
    await late.release(aStatus());
    assert.equal(scene.shard.status?.worker, "other");
  });

  test("goes on after changes that do not matter", async ({ signal }) => {
    await using scene = await Scene.start();
    const writer = scene.aWriter();
    await writer.claim(() => claimed, { signal });
    scene.server.merge(mirrorShards, key, { metadata: { labels: { a: "b" } } });
    await writer.update({ ...claimed, synced: 1 }, { signal });

    assert.equal(scene.shard.status?.synced, 1);
    assert.deepEqual(scene.shard.metadata.labels, { a: "b" });
  });

  test("stops where the shard is somebody else's by now", async ({ signal }) => {
    await using scene = await Scene.start();
    const writer = scene.aWriter();
    await writer.claim(() => claimed, { signal });
    scene.server.merge(mirrorShards, key, { status: { worker: "other" } });

    await assert.rejects(writer.update(claimed, { signal }), ConflictError);
    await writer.release(aStatus());
    assert.equal(scene.shard.status?.worker, "other");
  });

  test("goes on where it is asked for once more, or told what may be removed", async ({
    signal,
  }) => {
    await using scene = await Scene.start();
    const writer = scene.aWriter();
    await writer.claim(() => claimed, { signal });
    const removals = [{ tag: "1", digest: `sha256:${"a".repeat(64)}` }];
    scene.server.merge(mirrorShards, key, { spec: { run: "now", removals } });
    await writer.finish(aStatus({ synced: 1 }), { signal });

    assert.deepEqual(scene.shard.status, aStatus({ synced: 1 }));
    assert.deepEqual(scene.shard.spec.removals, removals);
  });

  test("stops where the spec has changed, and lets go of the shard", async ({ signal }) => {
    await using scene = await Scene.start();
    const writer = scene.aWriter();
    await writer.claim(() => claimed, { signal });
    scene.server.merge(mirrorShards, key, { spec: { tags: ["2"] } });

    await assert.rejects(writer.finish(aStatus(), { signal }), ConflictError);
    await writer.release(aStatus({ bytesCopied: 5 }));
    assert.deepEqual(scene.shard.status, aStatus({ bytesCopied: 5 }));
  });

  test("stops where the shard was deleted, or made anew", async ({ signal }) => {
    await using scene = await Scene.start();
    const writer = scene.aWriter();
    await writer.claim(() => claimed, { signal });
    scene.server.delete(mirrorShards, key);
    scene.server.create(mirrorShards, aMirrorShard());

    await assert.rejects(writer.update(claimed, { signal }), ConflictError);
    assert.equal(scene.shard.status, undefined);
  });
});
