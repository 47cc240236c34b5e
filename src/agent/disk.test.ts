import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Node } from "#kube/types.ts";
import { aNode } from "#test/agent-world.ts";
import { lackOfSpace, neededBytes, roomIn, runtimeDisk, shareOf } from "./disk.ts";
import type { OwedImage } from "./owed.ts";

const policy = { expansion: 3, reservePercent: 10 };
const megabyte = 1_000_000;

const disk = { freeBytes: 400 * megabyte, totalBytes: 1_000 * megabyte };

function lackOf(need: number, others = 0, freeBytes = disk.freeBytes): string | undefined {
  const bytes = { needBytes: need * megabyte, othersBytes: others * megabyte };
  return lackOfSpace(bytes, { ...disk, freeBytes }, policy);
}

function needed(sizes: OwedImage["sizes"], node: Node | undefined): number {
  return neededBytes({ sizes }, { node, heldBytes: 0 }, policy);
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

describe("shareOf()", () => {
  const a = { namespace: "a", bytes: 30, isStill: true };
  const huge = { namespace: "huge", bytes: 100, isStill: true };

  test("counts in full what gets on, whoever's it is", () => {
    const moving = { ...huge, isStill: false };
    assert.equal(shareOf(["b"], [moving], 100).othersBytes, 100);
    assert.equal(shareOf(["b"], [moving, huge], 100).othersBytes, 150);
    assert.equal(shareOf(["huge"], [moving, huge], 100).othersBytes, 200);
  });

  test("counts a namespace's own still claims in full, and others' to half of the room", () => {
    assert.deepEqual(shareOf(["b"], [a, a], 100), { namespace: "b", othersBytes: 50 });
    assert.deepEqual(shareOf(["a"], [a, a], 100), { namespace: "a", othersBytes: 60 });
    assert.deepEqual(shareOf(["b"], [a, huge], 100), { namespace: "b", othersBytes: 80 });
  });

  test("takes the part of whichever namespace of an image has most room left", () => {
    const others = { namespace: "a", othersBytes: 50 };
    assert.deepEqual(shareOf(["a", "huge"], [huge], 100), others);
    assert.deepEqual(shareOf(["huge", "a"], [huge], 100), others);
  });

  test("is as hard on everybody where there is no room", () => {
    const none = roomIn({ freeBytes: 1, totalBytes: 100 }, policy);
    assert.equal(none, -9);
    assert.deepEqual(shareOf(["b"], [a], none), { namespace: "b", othersBytes: 0 });
  });
});

describe("neededBytes()", () => {
  test("counts an image of which the node has another version as what is downloaded", () => {
    const sizes = [{ platform: "linux/amd64", sizeBytes: 10 }];

    assert.equal(neededBytes({ sizes }, { node: aNode(), heldBytes: 5 }, policy), 10);
  });

  test("expands an image beside which what the node has under its name is small", () => {
    const sizes = [{ platform: "linux/amd64", sizeBytes: 10 }];

    assert.equal(neededBytes({ sizes }, { node: aNode(), heldBytes: 4 }, policy), 30);
  });

  test("goes by the node's platform, whatever its variant", () => {
    const sizes = [
      { platform: "linux/amd64", sizeBytes: 10 },
      { platform: "linux/arm64/v8", sizeBytes: 20 },
    ];
    const arm = aNode();
    const nodeInfo = { operatingSystem: "linux", architecture: "arm64" };

    assert.equal(needed(sizes, aNode()), 30);
    assert.equal(needed(sizes, { ...arm, status: { nodeInfo } }), 60);
  });

  test("is nothing if nobody knows the size, or the platform", () => {
    assert.equal(needed([], aNode()), 0);
    const sizes = [{ platform: "windows/amd64", sizeBytes: 10 }];
    assert.equal(needed(sizes, aNode()), 0);
    assert.equal(needed(sizes, undefined), 0);
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
