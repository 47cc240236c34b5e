import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { hash } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";

import { WrongContentError, type Descriptor } from "#oci/content.ts";
import { FakeError } from "#test/fake-repository.ts";
import { BlobFiles } from "./blob-files.ts";
import { LayoutDirectory } from "./layout-directory.ts";

const content = Buffer.from("a layer that comes in several pieces");
const descriptor: Descriptor = {
  mediaType: "application/octet-stream",
  digest: `sha256:${hash("sha256", content)}`,
  sizeBytes: content.length,
};
const broken = new FakeError("UNREACHABLE", { retryable: true });

async function aStore(t: TestContext): Promise<{ blobs: BlobFiles; folder: string }> {
  const folder = await mkdtemp(join(tmpdir(), "coral-blobs-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return { blobs: new BlobFiles(await LayoutDirectory.open(folder, { create: true })), folder };
}

/** Gives a content from an offset; at most so many bytes at a time, and then it breaks off. */
function aSource(
  bytes: Buffer,
  { breakAfter = Infinity, error }: { breakAfter?: number; error?: Error } = {},
): { open: (fromByte: number) => AsyncGenerator<Buffer>; opened: number[] } {
  const opened: number[] = [];
  return {
    opened,
    async *open(fromByte) {
      opened.push(fromByte);
      const end = Math.min(bytes.length, fromByte + breakAfter);
      for (let at = fromByte; at < end; at += 5) yield bytes.subarray(at, Math.min(at + 5, end));
      if (end < bytes.length && error) throw error;
    },
  };
}

async function read(blobs: BlobFiles, t: TestContext, fromByte = 0): Promise<string> {
  let text = "";
  for await (const chunk of blobs.read(descriptor.digest, fromByte, t)) text += chunk.toString();
  return text;
}

function partialOf(folder: string): string {
  return join(folder, "ingest", `${descriptor.digest.replace(":", "-")}.partial`);
}

describe("BlobFiles", () => {
  test("stores a blob, reads it from any offset, and leaves nothing else", async (t) => {
    const { blobs, folder } = await aStore(t);
    const sent: number[] = [];
    const onProgress = (bytes: number): unknown => sent.push(bytes);
    await blobs.write(descriptor, aSource(content).open, { signal: t.signal, onProgress });

    assert.equal(await read(blobs, t), content.toString());
    assert.equal(await read(blobs, t, 10), content.subarray(10).toString());
    assert.equal(await read(blobs, t, 1_000), "");
    assert.equal(sent.at(-1), content.length);
    assert.deepEqual(await readdir(join(folder, "ingest")), []);
  });

  test("does not read the source of what is there", async (t) => {
    const { blobs } = await aStore(t);
    await blobs.write(descriptor, aSource(content).open, t);
    const again = aSource(content);
    await blobs.write(descriptor, again.open, t);

    assert.deepEqual(again.opened, []);
  });

  test("reads the source once for two that want it at the same time, and leaves no lock", async (t) => {
    const { blobs, folder } = await aStore(t);
    const source = aSource(content);
    await Promise.all([1, 2, 3].map(() => blobs.write(descriptor, source.open, t)));

    assert.deepEqual(source.opened, [0]);
    assert.deepEqual(await readdir(join(folder, "ingest")), []);
  });

  test("goes on where the source broke off", async (t) => {
    const { blobs } = await aStore(t);
    const source = aSource(content, { breakAfter: 10, error: broken });
    await blobs.write(descriptor, source.open, t);

    assert.deepEqual(source.opened, [0, 10, 20, 30]);
    assert.equal(await read(blobs, t), content.toString());
  });

  test("goes on with what an attempt that failed left behind", async (t) => {
    const { blobs } = await aStore(t);
    const failing = aSource(content, { breakAfter: 10, error: new FakeError("DENIED") });
    await assert.rejects(blobs.write(descriptor, failing.open, t), { code: "DENIED" });
    assert.equal(await blobs.has(descriptor.digest, t), false);
    const source = aSource(content);
    await blobs.write(descriptor, source.open, t);

    assert.deepEqual(source.opened, [10]);
  });

  test("goes on with what a process that was killed left behind", async (t) => {
    const { blobs, folder } = await aStore(t);
    const script = `
      import { LayoutDirectory } from ${JSON.stringify(import.meta.resolve("./layout-directory.ts"))};
      import { BlobFiles } from ${JSON.stringify(import.meta.resolve("./blob-files.ts"))};
      const [folder, descriptor, text] = process.argv.slice(1);
      const blobs = new BlobFiles(await LayoutDirectory.open(folder, { create: false }));
      async function* open() {
        yield Buffer.from(text.slice(0, 12));
        setInterval(() => {}, 1_000);
        await new Promise(() => {});
      }
      await blobs.write(JSON.parse(descriptor), open, { signal: new AbortController().signal });
    `;
    const writer = spawn(
      process.execPath,
      [
        "--input-type=module",
        "-e",
        script,
        "--",
        folder,
        JSON.stringify(descriptor),
        content.toString(),
      ],
      { stdio: "inherit" },
    );
    const sizeOf = async (): Promise<number> =>
      (await stat(partialOf(folder)).catch(() => undefined))?.size ?? 0;
    while ((await sizeOf()) < 12) await setTimeout(20, undefined, { signal: t.signal });
    const source = aSource(content);
    const writing = blobs.write(descriptor, source.open, t);
    assert.deepEqual(source.opened, [], "the other one holds it");
    writer.kill("SIGKILL");
    await once(writer, "exit");
    await writing;

    assert.deepEqual(source.opened, [12]);
    assert.equal(await read(blobs, t), content.toString());
  });

  test("begins anew if what was left behind is wrong", async (t) => {
    const { blobs, folder } = await aStore(t);
    for (const left of ["A LAYER", "x".repeat(1_000)]) {
      await mkdir(join(folder, "ingest"), { recursive: true });
      await writeFile(partialOf(folder), left);
      await blobs.write(descriptor, aSource(content).open, t);
      assert.equal(await read(blobs, t), content.toString());
      await blobs.remove(descriptor.digest);
    }
  });

  const wrong: Record<string, Buffer> = {
    "has other bytes": Buffer.from(content.toString().toUpperCase()),
    "is longer": Buffer.concat([content, content]),
    "ends early": content.subarray(0, 12),
    "is empty": Buffer.alloc(0),
  };
  for (const [fact, bytes] of Object.entries(wrong)) {
    test(`refuses content that ${fact}, and keeps nothing of it`, async (t) => {
      const { blobs, folder } = await aStore(t);

      await assert.rejects(
        blobs.write(descriptor, aSource(bytes).open, t),
        (error) => error instanceof WrongContentError && error.digest === descriptor.digest,
      );
      assert.equal(await blobs.has(descriptor.digest, t), false);
      const left = await readdir(join(folder, "ingest"));
      assert.deepEqual(
        left.filter((name) => name.endsWith(".partial")),
        [],
      );
    });
  }

  test("gives up on a source that breaks off without getting on", async (t) => {
    const { blobs } = await aStore(t);
    const source = aSource(content, { breakAfter: 0, error: broken });
    await assert.rejects(blobs.write(descriptor, source.open, t), { code: "UNREACHABLE" });

    assert.equal(source.opened.length, 1);
  });

  test("stops when it is aborted, and keeps what it has", async (t) => {
    const { blobs } = await aStore(t);
    const stop = new AbortController();
    const reason = new Error("enough");
    async function* open(): AsyncGenerator<Buffer> {
      yield content.subarray(0, 10);
      stop.abort(reason);
      yield content.subarray(10);
    }
    const { signal } = stop;
    await assert.rejects(blobs.write(descriptor, open, { signal }), (error) => error === reason);
    const source = aSource(content);
    await blobs.write(descriptor, source.open, t);

    assert.deepEqual(source.opened, [10]);
  });

  test("reads more than its buffers hold, in order", async (t) => {
    const { blobs } = await aStore(t);
    const large = Buffer.alloc(5 * 1_024 * 1_024 + 7);
    for (let at = 0; at < large.length - 4; at += 4_096) large.writeUInt32LE(at, at);
    const digest = `sha256:${hash("sha256", large)}`;
    const whole = { mediaType: "", digest, sizeBytes: large.length };
    await blobs.write(whole, () => chunksOf(large), t);
    const parts: Buffer[] = [];
    for await (const chunk of blobs.read(digest, 0, t)) parts.push(Buffer.from(chunk));

    assert.equal(Buffer.concat(parts).equals(large), true);
  });
});

async function* chunksOf(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
}
