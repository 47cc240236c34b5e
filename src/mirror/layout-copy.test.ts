import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { Layout } from "#layout/layout.ts";
import { FakeRegistry } from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import { runMirror, type MirrorTask } from "./run.ts";

describe("runMirror() by way of a layout", () => {
  test("carries images with all that refers to them from one registry to another", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "coral-carried-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const layout = await Layout.open(folder, { create: true });
    const [from, to] = ["from.test", "to.test"].map((host) => new FakeRegistry(host));
    assert.ok(from && to);
    const paths = ["org/one", "org/two"];
    for (const path of paths) {
      const source = from.repository(path);
      const image = addImage(source, ["base", path]);
      const index = addIndex(source, "1", [{ descriptor: image, platform: "linux/amd64" }]);
      addImage(source, ["signature"], { subject: index, artifactType: "test/signature" });
      addImage(source, ["sbom"], { subject: image, artifactType: "text/spdx" });
      addImage(source, ["cosign"], { tag: `${image.digest.replace(":", "-")}.sig` });
    }
    const { signal } = t;
    const selection = { listSelection: "all" } as const;
    const out: MirrorTask[] = paths.map((path) => ({
      source: from.repository(path),
      target: { repository: layout.repository(`from.test/${path}`), path },
      hosts: { source: "from.test", target: folder, parties: [] },
      selection,
    }));
    const back: MirrorTask[] = paths.map((path) => ({
      source: layout.repository(`from.test/${path}`),
      target: { repository: to.repository(path), path },
      hosts: { source: folder, target: "to.test", parties: [] },
      selection,
    }));
    const results = [];
    for (const tasks of [out, out, back]) results.push(await runMirror({ tasks, signal }));

    assert.deepEqual(
      results.map(({ copied, unchanged, failed }) => [copied, unchanged, failed]),
      [
        [2, 0, 0],
        [0, 2, 0],
        [2, 0, 0],
      ],
    );
    assert.deepEqual(await layout.repositories({ signal }), [
      "from.test/org/one",
      "from.test/org/two",
    ]);
    for (const path of paths) {
      assert.deepEqual(to.repository(path).digests(), from.repository(path).digests());
    }
  });
});
