import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { RuntimeImage } from "#cri/runtime-client.ts";
import { Inventory, nameInRuntime } from "./inventory.ts";

const digest = `sha256:${"a".repeat(64)}`;
const otherDigest = `sha256:${"b".repeat(64)}`;

function anImage(tags: string[], digests: string[] = []): RuntimeImage {
  return { id: "sha256:1", tags, digests, sizeBytes: 42, pinned: false };
}

function inventoryOf(...images: RuntimeImage[]): Inventory {
  const inventory = new Inventory();
  inventory.endRead(inventory.beginRead(), images);
  return inventory;
}

describe("Inventory", () => {
  test("finds an image by tag, with its size and digest", () => {
    const inventory = inventoryOf(anImage(["r.io/x:1"], [`r.io/x@${digest}`]));

    assert.deepEqual(inventory.find("r.io/x:1"), { sizeBytes: 42, digests: [digest] });
    assert.equal(inventory.find("r.io/x:2"), undefined);
    assert.equal(inventory.find("r.io/y:1"), undefined);
  });

  test("finds an image that has no tag by its digest, and only in its repository", () => {
    const inventory = inventoryOf(anImage([], [`r.io/x@${digest}`]));

    assert.deepEqual(inventory.find(`r.io/x@${digest}`), { sizeBytes: 42, digests: [digest] });
    assert.equal(inventory.find(`r.io/y@${digest}`), undefined);
  });

  test("finds a reference with tag and digest by the digest", () => {
    const inventory = inventoryOf(anImage([], [`r.io/x@${digest}`]));

    assert.deepEqual(inventory.find(`r.io/x:1@${digest}`), { sizeBytes: 42, digests: [digest] });
    assert.equal(inventory.find(`r.io/x:1@${otherDigest}`), undefined);
  });

  test("compares normalised names, whatever the runtime writes", () => {
    const inventory = inventoryOf(anImage(["debian:13", "index.docker.io/a/b:1", "h:5000/c"]));

    for (const name of ["docker.io/library/debian:13", "docker.io/a/b:1", "h:5000/c:latest"]) {
      assert.ok(inventory.find(name), name);
    }
  });

  test("passes over names that are none", () => {
    const inventory = inventoryOf(anImage(["<none>:<none>", "r.io/x:1"], ["<none>@<none>"]));

    assert.ok(inventory.find("r.io/x:1"));
  });

  test("names all digests of a tag's repository, and none of another's", () => {
    const digests = [`r.io/x@${otherDigest}`, `r.io/x@${digest}`, `r.io/z@${otherDigest}`];
    const inventory = inventoryOf(anImage(["r.io/x:1", "r.io/y:1"], digests));

    assert.deepEqual(inventory.find("r.io/x:1")?.digests, [digest, otherDigest]);
    assert.deepEqual(inventory.find("r.io/y:1")?.digests, []);
  });

  test("forgets what a later list does not have", () => {
    const inventory = inventoryOf(anImage(["r.io/x:1"]));
    inventory.endRead(inventory.beginRead(), []);

    assert.equal(inventory.find("r.io/x:1"), undefined);
  });

  test("keeps what was learned while a list was on its way, until the next one", () => {
    const inventory = inventoryOf();
    const read = inventory.beginRead();
    inventory.learn(anImage(["r.io/x:1"]));
    inventory.endRead(read, []);
    assert.ok(inventory.find("r.io/x:1"));

    inventory.endRead(inventory.beginRead(), []);
    assert.equal(inventory.find("r.io/x:1"), undefined);
  });
});

describe("an inventory whose tag has moved", () => {
  test("keeps what a pull brought, whatever an older list says", () => {
    const old = anImage(["r.io/x:1"], [`r.io/x@${digest}`]);
    const inventory = inventoryOf(old);
    const read = inventory.beginRead();
    inventory.learn({ ...anImage(["r.io/x:1"], [`r.io/x@${otherDigest}`]), id: "sha256:2" });
    inventory.endRead(read, [old]);

    assert.deepEqual(inventory.find("r.io/x:1")?.digests, [otherDigest]);
  });
});

describe("nameInRuntime()", () => {
  test("drops the tag of a reference with a digest", () => {
    assert.equal(nameInRuntime(`r.io/x:1@${digest}`), `r.io/x@${digest}`);
    assert.equal(nameInRuntime("r.io/x:1"), "r.io/x:1");
  });
});
