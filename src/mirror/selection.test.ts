import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Named } from "#oci/content.ts";
import { mediaTypes } from "#oci/manifest.ts";
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

async function* endlessTags(): AsyncGenerator<string> {
  for (;;) yield `sha256-${"a".repeat(64)}.sig`;
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

  test("leaves out cosign's tags, Coral's records, and what is no tag, but none that only looks like them", async ({
    signal,
  }) => {
    const attached = `sha256-${"a".repeat(64)}`;
    const record = `coral-mirror.${"0".repeat(16)}`;
    const tags = [
      `${attached}.sig`,
      `${attached}.vex`,
      "../1",
      "sha256-1",
      "1",
      record,
      `${record}0`,
    ];

    assert.deepEqual(await select({ listSelection: "all" }, tags, signal), [
      `${attached}.vex`,
      "sha256-1",
      `${record}0`,
      "1",
    ]);
  });

  test("looks whether a tag that is named like a list of referrers is one", async ({ signal }) => {
    const [list, image, old] = ["a", "b", "c"].map((hex) => `sha256-${hex.repeat(64)}`);
    const asked: string[] = [];
    const find = async (tag: string): Promise<Named> => {
      asked.push(tag);
      const mediaType = tag === list ? mediaTypes.ociIndex : mediaTypes.ociImage;
      return { mediaType, digest };
    };
    async function* listTags(): AsyncGenerator<string> {
      yield* [list, image, old, "1"].filter((tag) => tag !== undefined);
    }
    const filter = { exclude: [old ?? ""], newest: 2 };
    const selection: TagSelection = { listSelection: "all", filter };
    const found = await selectReferences(selection, listTags, { signal, find });

    assert.deepEqual(found.sort(), ["1", image]);
    assert.deepEqual(asked.sort(), [list, image]);
  });

  test("ends a list of tags that does not end, even if it takes none of them", async ({
    signal,
  }) => {
    await assert.rejects(
      selectReferences({ listSelection: "all" }, endlessTags, { signal }),
      (error) => error instanceof SelectionError && error.code === "TOO_MANY_TAGS",
    );
  });

  test("refuses a filter that makes no sense, rather than to take nothing", async ({ signal }) => {
    const filter = { include: ["("] };

    await assert.rejects(
      select({ listSelection: "all", filter }, ["1"], signal),
      (error) => error instanceof SelectionError && error.code === "INVALID_FILTER",
    );
  });
});
