import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { SelectionError, selectReferences, type TagSelection } from "./selection.ts";

const digest = `sha256:${"a".repeat(64)}`;

async function select(
  selection: TagSelection,
  tags: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  async function* list(): AsyncGenerator<string> {
    yield* tags;
  }
  return selectReferences(selection, list, { signal });
}

describe("selectReferences()", () => {
  test("takes what is listed, each once, and does not ask for tags", async ({ signal }) => {
    const selection = { tags: ["1", "2", "1"], digests: [digest] };
    const found = await selectReferences(selection, () => assert.fail("asked"), { signal });

    assert.deepEqual(found, ["1", "2", digest]);
  });

  test("takes latest where nothing is listed", async ({ signal }) => {
    assert.deepEqual(await select({}, ["1"], signal), ["latest"]);
  });

  test("takes all tags that the filter lets through, newest first", async ({ signal }) => {
    const filter = { include: ["v.*"], newest: 2 };
    const tags = ["v1.0.0", "v1.10.0", "v1.9.0", "nightly"];

    assert.deepEqual(await select({ listSelection: "all", filter }, tags, signal), [
      "v1.10.0",
      "v1.9.0",
    ]);
  });

  test("leaves out tags that belong to other manifests, and what is no tag", async ({ signal }) => {
    const hex = "a".repeat(64);
    const tags = [`sha256-${hex}`, `sha256-${hex}.sig`, "../1", "sha256-1", "1"];

    assert.deepEqual(await select({ listSelection: "all" }, tags, signal), ["sha256-1", "1"]);
  });

  test("refuses a filter that makes no sense, rather than to take nothing", async ({ signal }) => {
    const filter = { include: ["("] };

    await assert.rejects(
      select({ listSelection: "all", filter }, ["1"], signal),
      (error) => error instanceof SelectionError && error.code === "INVALID_FILTER",
    );
  });
});
