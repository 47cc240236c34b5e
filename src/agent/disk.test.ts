import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aNode } from "#test/agent-world.ts";
import { lackOfSpace, neededBytes, runtimeDisk } from "./disk.ts";

const policy = { expansion: 3, reservePercent: 10 };
const megabyte = 1_000_000;

const disk = { freeBytes: 400 * megabyte, totalBytes: 1_000 * megabyte };

function lackOf(need: number, others = 0, freeBytes = disk.freeBytes): string | undefined {
  const bytes = { needBytes: need * megabyte, othersBytes: others * megabyte };
  return lackOfSpace(bytes, { ...disk, freeBytes }, policy);
}

/** The `f_type` of file systems. */
const overlay = 0x79_4c_76_30;
const ext4 = 0xef_53;

/** Sees paths whose file system has a type. The root has twice the size of others. */
function seeing(types: Record<string, number>) {
  return async (path: string) => {
    const type = types[path];
    if (type === undefined) throw new Error("ENOENT");
    return { type, bsize: 4_096, blocks: path === "/" ? 200 : 100, bavail: 50 };
  };
}

describe("lackOfSpace()", () => {
  test("leaves the reserve free, and what running pulls may take", () => {
    assert.equal(lackOf(300), undefined);
    assert.equal(lackOf(301), "needs about 301 MB beside the 10 % of the disk that stay free");
    assert.equal(lackOf(200, 100), undefined);
    assert.match(lackOf(200, 101) ?? "", /^needs about 200 MB/);
  });

  test("says the same however much is free, so that a report does not change for ever", () => {
    assert.equal(lackOf(1_000, 0, 1), lackOf(1_000, 0, 2 * megabyte));
  });
});

describe("neededBytes()", () => {
  test("goes by the node's platform, whatever its variant", () => {
    const sizes = [
      { platform: "linux/amd64", sizeBytes: 10 },
      { platform: "linux/arm64/v8", sizeBytes: 20 },
    ];
    const arm = aNode();
    const nodeInfo = { operatingSystem: "linux", architecture: "arm64" };

    assert.equal(neededBytes({ sizes }, aNode(), policy), 30);
    assert.equal(neededBytes({ sizes }, { ...arm, status: { nodeInfo } }, policy), 60);
  });

  test("is nothing if nobody knows the size, or the platform", () => {
    assert.equal(neededBytes({ sizes: [] }, aNode(), policy), 0);
    const sizes = [{ platform: "windows/amd64", sizeBytes: 10 }];
    assert.equal(neededBytes({ sizes }, aNode(), policy), 0);
    assert.equal(neededBytes({ sizes }, undefined, policy), 0);
  });
});

describe("runtimeDisk()", () => {
  const folder = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs";
  const runtime = {
    imageFsInfo: async () => [{ mountpoint: folder, usedBytes: 1, inodesUsed: 1 }],
  };
  test("sees the runtime's own folder where it can", async ({ signal }) => {
    const disk = runtimeDisk(runtime, seeing({ [folder]: ext4, "/": overlay }));

    assert.deepEqual(await disk.space({ signal }), { freeBytes: 204_800, totalBytes: 409_600 });
  });

  test("sees in a container, by its own root, the disk that all layers lie on", async ({
    signal,
  }) => {
    const disk = runtimeDisk(runtime, seeing({ "/": overlay }));

    assert.equal((await disk.space({ signal }))?.totalBytes, 819_200);
  });

  test("knows nothing where its root is a disk of its own", async ({ signal }) => {
    assert.equal(await runtimeDisk(runtime, seeing({ "/": ext4 })).space({ signal }), undefined);
  });

  test("does without a runtime that does not answer", async ({ signal }) => {
    const away = { imageFsInfo: () => Promise.reject(new Error("away")) };

    assert.equal(
      (await runtimeDisk(away, seeing({ "/": overlay })).space({ signal }))?.totalBytes,
      819_200,
    );
  });

  test("reads this machine's disks", async ({ signal }) => {
    const here = { imageFsInfo: async () => [{ mountpoint: "/tmp", usedBytes: 1, inodesUsed: 1 }] };
    const space = await runtimeDisk(here).space({ signal });

    assert.ok(space && space.freeBytes >= 0 && space.totalBytes >= space.freeBytes);
  });
});
