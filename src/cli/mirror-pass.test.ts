import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { FakeRegistry, type FakeRepository } from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import { adviceFor } from "./advice.ts";
import { parseMirrorFiles, type FileMirror } from "./mirror-file.ts";
import { runPass, type PassOptions } from "./mirror-pass.ts";
import { planMirrors } from "./mirror-plan.ts";
import { problemReport, reportOf } from "./report.ts";
import { formatSummary } from "./summary.ts";

function mirrorOf(spec: string): FileMirror[] {
  const text = `apiVersion: stvz.io/v1\nkind: Mirror\nmetadata: { name: web }\nspec: ${spec}\n`;
  return parseMirrorFiles([{ name: "mirror.yaml", text }]).mirrors;
}

const all = `{ registry: b.test, repositories: [{ name: a.test/x, listSelection: all }, { name: a.test/gone, tags: ["1"] }] }`;

interface Scene {
  readonly source: FakeRepository;
  readonly target: FakeRepository;
  run: (options?: Partial<PassOptions>) => ReturnType<typeof runPass>;
}

/** A source with an image in two tags, and one that is not there. */
async function aScene(signal: AbortSignal, spec = all): Promise<Scene> {
  const [a, b] = [new FakeRegistry("a.test"), new FakeRegistry("b.test")];
  const source = a.repository("x");
  addIndex(source, "1", [
    { descriptor: addImage(source, ["base", "amd64"]), platform: "linux/amd64" },
    { descriptor: addImage(source, ["base", "arm64"]), platform: "linux/arm64" },
  ]);
  addImage(source, ["base", "two"], { tag: "2" });
  const { planned } = await planMirrors(mirrorOf(spec), {
    open: async ({ registry, path }) => (registry === "a.test" ? a : b).repository(path),
    dryRun: false,
    referrersDue: false,
    signal,
  });
  const common = { planned, dryRun: false, parallel: 2, onEvent: () => {}, signal };
  return {
    source,
    target: b.repository("a.test/x"),
    run: (options = {}) => runPass({ ...common, ...options }),
  };
}

const context = { dryRun: false, startedAt: new Date("2026-01-01T00:00:00Z"), durationMs: 1_500 };

describe("runPass()", () => {
  test("copies what there is, and tells of what there is not", async ({ signal }) => {
    const { source, target, run } = await aScene(signal);
    const { mirrors, totals, isInterrupted } = await run();

    assert.equal(isInterrupted, false);
    assert.deepEqual(target.digests(), source.digests());
    assert.deepEqual([totals.copied, totals.unchanged, totals.failed], [2, 0, 1]);
    assert.deepEqual(
      mirrors[0]?.repositories.map(({ tags }) => tags.map(({ outcome }) => outcome)),
      [["copied", "copied"], ["failed"]],
    );
  });

  test("says in a dry run how large everything is, by what it has of platforms", async ({
    signal,
  }) => {
    const whole = await (await aScene(signal)).run({ dryRun: true });
    const scene = await aScene(
      signal,
      all.replace("{ registry", "{ platforms: [linux/arm64], registry"),
    );
    const half = await scene.run({ dryRun: true });
    const sizesOf = ({ mirrors }: typeof whole): (number | undefined)[] =>
      mirrors[0]?.repositories[0]?.tags.map(({ sizeBytes }) => sizeBytes) ?? [];

    assert.equal(whole.totals.planned, 2);
    assert.ok(sizesOf(whole).every((sizeBytes) => sizeBytes !== undefined && sizeBytes > 0));
    const [, ofIndex = 0] = sizesOf(whole);
    assert.ok((sizesOf(half)[1] ?? Infinity) < ofIndex, "one platform is less");
    assert.deepEqual(scene.target.digests(), []);
    const [size1 = 0, size2 = 0] = sizesOf(whole);
    assert.ok(whole.plannedBytes < size1 + size2, "what both tags have is sent once");
    assert.equal(whole.mirrors[0]?.repositories[0]?.sizeBytes, whole.plannedBytes);
  });

  test("tells what was done when it is ended", async ({ signal }) => {
    const { source, run } = await aScene(signal);
    const held = source.addBlob("two");
    source.holdBlob(held.digest);
    const stop = new AbortController();
    const { mirrors, totals, isInterrupted } = await run({
      signal: stop.signal,
      onEvent: (event) => {
        if (event.kind === "tagDone" && event.tag === "1") stop.abort(new Error("Received SIGINT"));
      },
    }).catch((error: unknown) => assert.fail(String(error)));

    assert.equal(isInterrupted, true);
    assert.ok(totals.copied + totals.failed >= 1);
    assert.ok(mirrors[0]?.repositories.every(({ tags }) => tags.every(({ tag }) => tag !== "2")));
  });
});

describe("reportOf()", () => {
  test("has everything, with what to do about failures", async ({ signal }) => {
    const { source, run } = await aScene(signal);
    const index = source.tagged("1") ?? "";
    const report = reportOf(await run(), context);

    assert.deepEqual(Object.keys(report), [
      "version",
      "dryRun",
      "interrupted",
      "startedAt",
      "seconds",
      "totals",
      "mirrors",
    ]);
    const text = JSON.stringify(report);
    assert.match(text, /"startedAt":"2026-01-01T00:00:00.000Z","seconds":1.5/);
    assert.ok(
      text.includes(`"tag":"1","outcome":"copied","digest":"${index}","digestDiffers":false`),
    );
    assert.match(
      text,
      /"source":"a.test\/gone","target":"b.test\/a.test\/gone","tags":\[\{"tag":"1","outcome":"failed","code":"NOT_FOUND","reason":".+","advice":"look for a slip/,
    );
  });

  test("tells of files that cannot be used", () => {
    const problem = { file: "a.yaml", line: 1, mirror: "", path: "", value: "", message: "must" };

    assert.deepEqual(problemReport([problem]), { version: 1, problems: [problem] });
  });
});

describe("formatSummary()", () => {
  test("has a row for each repository, each failure with what to do, and all in one line", async ({
    signal,
  }) => {
    const { run } = await aScene(signal);
    const lines = formatSummary(await run(), {
      dryRun: false,
      durationMs: 1_500,
      isColored: false,
    }).split("\n");

    assert.match(
      lines[0] ?? "",
      /^SOURCE +DESTINATION +COPIED +UNCHANGED +FAILED +THROTTLED +SENT$/,
    );
    assert.match(lines[1] ?? "", /^a\.test\/x +b\.test\/a\.test\/x +2 +0 +0 +0 +\d+ B$/);
    assert.match(lines[2] ?? "", /^a\.test\/gone +b\.test\/a\.test\/gone +0 +0 +1 +0 +0 B$/);
    assert.match(lines[4] ?? "", /^failed a\.test\/gone:1: NOT_FOUND: /);
    assert.match(lines[5] ?? "", /^ +look for a slip/);
    assert.match(
      lines[7] ?? "",
      /^2 copied, 0 unchanged, 1 failed, 0 throttled; \d+ B sent in 1\.5 s$/,
    );
  });

  test("notes a repository of which there is nothing to copy", async ({ signal }) => {
    const nothing = `{ registry: b.test, repositories: [{ name: a.test/typo, listSelection: all }] }`;
    const { run } = await aScene(signal, nothing);
    const summary = formatSummary(await run(), { dryRun: false, durationMs: 1, isColored: false });

    assert.match(summary, /^note: a\.test\/typo has no tags that are asked for, or is not there$/m);
  });

  test("is colored only where that is wanted", async ({ signal }) => {
    const { run } = await aScene(signal);
    const result = await run();

    const summaryOf = (isColored: boolean): string =>
      formatSummary(result, { dryRun: false, durationMs: 1, isColored });
    assert.ok(summaryOf(true).includes("\x1b["));
    assert.ok(!summaryOf(false).includes("\x1b["));
  });

  test("lists what a dry run would copy", async ({ signal }) => {
    const { run } = await aScene(signal);
    const summary = formatSummary(await run({ dryRun: true }), {
      dryRun: true,
      durationMs: 1,
      isColored: false,
    });

    assert.match(summary, /^WOULD COPY +TO +SIZE$/m);
    assert.match(summary, /^a\.test\/x:2 +b\.test\/a\.test\/x +\d+ B$/m);
    assert.match(
      summary,
      /^2 to copy \(.*\), 0 unchanged, 1 failed, 0 throttled; nothing was written/m,
    );
  });
});

describe("adviceFor()", () => {
  const names = { source: "a.test:5000/x", target: "b.test/a/x" };
  const cases: Record<string, [code: string, reason: string, advice: RegExp]> = {
    "who refuses to give": [
      "DENIED",
      "a.test:5000: no",
      /"docker login a\.test:5000", as somebody who may pull/,
    ],
    "who refuses to take": [
      "DENIED",
      "b.test: no",
      /"docker login b\.test", as somebody who may push/,
    ],
    "whose login cannot be got": [
      "HELPER_FAILED",
      'cannot get the login for "b.test": x',
      /"docker login b\.test"/,
    ],
    "who cannot be reached": [
      "UNREACHABLE",
      "b.test: it refuses connections",
      /^see whether b\.test can be reached/,
    ],
    "whose certificate is not trusted": [
      "UNREACHABLE",
      "b.test: the connection failed (DEPTH_ZERO_SELF_SIGNED_CERT)",
      /--ca-file FILE, .*--insecure-skip-tls-verify b\.test/,
    ],
    "who speaks no TLS": [
      "UNREACHABLE",
      "b.test: the connection failed (ERR_SSL_WRONG_VERSION_NUMBER)",
      /--plain-http b\.test/,
    ],
    "whose signatures are at stake": [
      "SIGNATURES_DIFFER",
      'the target has signatures in "sha256-0.sig" that the source has not',
      /^bring the target's signatures to the source/,
    ],
    "what nobody knows": ["SOMETHING", "x", /^run it again/],
  };
  for (const [fact, [code, reason, advice]] of Object.entries(cases)) {
    test(`names ${fact}`, () => {
      assert.match(adviceFor({ code, reason, ...names }), advice);
    });
  }
});
