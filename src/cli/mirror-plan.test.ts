import assert from "node:assert/strict";
import { access, mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { Layout } from "#layout/layout.ts";
import { BlobPool } from "#mirror/blob-pool.ts";
import { RepositoryCopy } from "#mirror/copy.ts";
import { FakeError, FakeRegistry } from "#test/fake-repository.ts";
import { addImage } from "#test/images.ts";
import { formatProblem, parseMirrorFiles, type FileMirror } from "./mirror-file.ts";
import { planMirrors, type PlanOptions } from "./mirror-plan.ts";

function mirrorsOf(...specs: string[]): FileMirror[] {
  const text = specs
    .map(
      (spec, index) =>
        `apiVersion: stvz.io/v1\nkind: Mirror\nmetadata: { name: m${index} }\nspec: ${spec}\n`,
    )
    .join("---\n");
  const { mirrors, problems } = parseMirrorFiles([{ name: "mirror.yaml", text }]);
  assert.deepEqual(problems.map(formatProblem), []);
  return mirrors;
}

/** Opens repositories of registries in memory; what they are opened for goes to `opened`. */
function world(signal: AbortSignal): PlanOptions & { opened: string[] } {
  const opened: string[] = [];
  return {
    opened,
    async open({ registry, path }, { actions }) {
      if (registry === "locked.test") throw new FakeError("HELPER_FAILED", { reason: "no helper" });
      opened.push(`${registry}/${path} ${actions}`);
      return new FakeRegistry(registry).repository(path);
    },
    dryRun: false,
    referrersDue: false,
    signal,
  };
}

/** Makes a layout that has an image in each of these repositories; `undefined` is the layout as a whole. */
async function makeLayout(
  folder: string,
  repositories: readonly (string | undefined)[],
  signal: AbortSignal,
): Promise<void> {
  const layout = await Layout.open(folder, { create: true });
  const source = new FakeRegistry().repository("org/app");
  addImage(source, ["layer"], { tag: "1" });
  for (const name of repositories) {
    const target = { repository: layout.repository(name), path: name ?? "" };
    const copy = new RepositoryCopy({ source, target, blobs: new BlobPool({ signal }), signal });
    assert.equal((await copy.copyTag("1")).outcome, "copied");
  }
}

describe("planMirrors()", () => {
  test("opens sources to read and destinations to write", async ({ signal }) => {
    const options = world(signal);
    const { planned, problems } = await planMirrors(
      mirrorsOf(`{ registry: b.test/m, repositories: [{ name: a.test/x, tags: ["1"] }] }`),
      options,
    );

    assert.deepEqual(problems, []);
    assert.deepEqual(options.opened, ["a.test/x pull", "b.test/m/a.test/x pull,push"]);
    const [task] = planned[0]?.tasks ?? [];
    assert.deepEqual(task?.hosts, {
      source: "a.test",
      target: "b.test",
      parties: ["a.test/x"],
    });
    assert.deepEqual(task?.target.path, "m/a.test/x");
    assert.deepEqual(task?.selection, { tags: ["1"], listSelection: "listed" });
  });

  test("asks for no right to write in a dry run, and makes no layout", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-plan-"));
    const options = { ...world(signal), dryRun: true };
    const there = join(folder.path, "there");
    const { planned } = await planMirrors(
      mirrorsOf(
        `{ registry: b.test, repositories: [{ name: a.test/x }] }`,
        `{ registry: "oci:${there}", repositories: [{ name: a.test/x }] }`,
      ),
      options,
    );

    assert.deepEqual(options.opened.slice(0, 2), ["a.test/x pull", "b.test/a.test/x pull"]);
    const target = planned[1]?.tasks[0]?.target.repository;
    assert.equal(target?.name, `oci:${there}:a.test/x`);
    assert.equal(await target?.find("1", { signal }), undefined);
    await assert.rejects(access(there));
  });

  test("takes every repository that a layout names, or one of them", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-plan-"));
    const layout = join(folder.path, "l");
    await makeLayout(layout, ["a.test/x", "localhost:5000/y"], signal);
    const { planned, problems } = await planMirrors(
      mirrorsOf(
        `{ registry: b.test, repositories: [{ name: "oci:${layout}" }] }`,
        `{ registry: c.test, repositories: [{ name: "oci:${layout}:localhost:5000/y" }] }`,
      ),
      world(signal),
    );

    assert.deepEqual(problems, []);
    assert.deepEqual(
      planned.map(({ tasks }) => tasks.map(({ target }) => target.path)),
      [["a.test/x", "localhost_5000/y"], ["localhost_5000/y"]],
    );
  });

  test("keeps the names of the sources in a layout", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-plan-"));
    const spec = `{ registry: "oci:${folder.path}", repositories: [{ name: "localhost:5000/x" }, { name: debian }] }`;
    const { planned } = await planMirrors(mirrorsOf(spec), world(signal));

    assert.deepEqual(
      planned[0]?.tasks.map(({ target }) => target.repository.name),
      [`oci:${folder.path}:localhost:5000/x`, `oci:${folder.path}:docker.io/library/debian`],
    );
  });

  test("needs a name for what a layout without names holds", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-plan-"));
    await makeLayout(folder.path, [undefined], signal);
    const spec = `registry: b.test, repositories: [{ name: "oci:${folder.path}", tags: ["1"] }]`;
    const without = await planMirrors(mirrorsOf(`{ ${spec} }`), world(signal));
    const withOne = await planMirrors(
      mirrorsOf(`{ ${spec}, destination: org/app }`),
      world(signal),
    );

    assert.match(without.problems[0]?.message ?? "", /^must be a name without \{…\}/);
    assert.equal(withOne.planned[0]?.tasks[0]?.target.path, "org/app");
  });

  test("refuses what a layout does not have", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-plan-"));
    await makeLayout(folder.path, ["a.test/x"], signal);
    const spec = `{ registry: b.test, repositories: [{ name: "oci:${folder.path}:a.test/y" }, { name: "oci:${folder.path}/nowhere" }] }`;
    const { planned, problems } = await planMirrors(mirrorsOf(spec), world(signal));

    assert.deepEqual(planned, []);
    assert.equal(problems[0]?.message, "must be one of those in the layout: a.test/x");
    assert.match(problems[1]?.message ?? "", /^must be an OCI layout: /);
  });

  test("lets nothing be overwritten, whatever Mirror and layout it comes from", async ({
    signal,
  }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-plan-"));
    await makeLayout(folder.path, ["a.test/x"], signal);
    const { problems } = await planMirrors(
      mirrorsOf(
        `{ registry: b.test, repositories: [{ name: "oci:${folder.path}" }] }`,
        `{ registry: b.test, repositories: [{ name: a.test/x }] }`,
        `{ registry: "oci:${folder.path}", repositories: [{ name: "oci:${folder.path}" }] }`,
      ),
      world(signal),
    );

    assert.deepEqual(
      problems.map(({ mirror, message }) => [mirror, message]),
      [
        [
          "m1",
          'must not be copied to b.test/a.test/x, as spec.repositories[0].name of Mirror "m0" is: change spec.destination',
        ],
        ["m2", "must not be copied to where it is: change spec.registry"],
      ],
    );
  });

  test("lets two Mirrors copy the same to the same", async ({ signal }) => {
    const spec = `{ registry: b.test, repositories: [{ name: a.test/x }] }`;
    const { planned, problems } = await planMirrors(mirrorsOf(spec, spec), world(signal));

    assert.deepEqual(problems, []);
    assert.equal(planned.length, 2);
  });

  test("goes on without what cannot be opened", async ({ signal }) => {
    const spec = `{ registry: b.test, repositories: [{ name: locked.test/x }, { name: a.test/x }] }`;
    const { planned, problems } = await planMirrors(mirrorsOf(spec), world(signal));

    assert.deepEqual(problems, []);
    assert.equal(planned[0]?.tasks.length, 1);
    assert.deepEqual(planned[0]?.unopened, [
      {
        source: "locked.test/x",
        target: "b.test/locked.test/x",
        tags: [],
        failure: { outcome: "failed", code: "HELPER_FAILED", reason: "no helper" },
      },
    ]);
  });

  test("refuses a destination that is no layout", async ({ signal }) => {
    const spec = `{ registry: "oci:/dev/null", repositories: [{ name: a.test/x }] }`;
    const { planned, problems } = await planMirrors(mirrorsOf(spec), world(signal));

    assert.deepEqual(planned, []);
    assert.match(
      problems.map(formatProblem).join(),
      /spec\.registry "oci:\/dev\/null" must be an OCI layout or an empty folder: /,
    );
  });
});
