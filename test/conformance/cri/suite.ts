import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { PullError } from "#cri/pull-error.ts";
import { RuntimeClient, type Ingest } from "#cri/runtime-client.ts";
import type { ImageEvent } from "#cri/image-events.ts";
import { waitFor } from "#sandbox/wait.ts";

/** A runtime with a registry behind it. */
export interface RuntimeUnderTest extends AsyncDisposable {
  readonly socketPath: string;
  /** Reference by tag that its registry serves and nothing else on the node uses. */
  readonly reference: string;
  /** Reference that its registry answers with "not found". */
  readonly missing: string;
  /** Makes downloads of blobs stop after some bytes, without an end, until disposed. */
  stallDownloads(): Promise<AsyncDisposable>;
  /** Ends the runtime as a crash would. */
  kill(): Promise<void>;
  /** Brings it back after {@link kill}. */
  startAgain(): Promise<void>;
}

/** Longest wait for one image or one event: all are small and local. */
const timeoutMs = 30_000;

/** Declares what {@link RuntimeClient} relies on, for a runtime that `open` starts. */
export function describeRuntime(name: string, open: () => Promise<RuntimeUnderTest>): void {
  describe(`${name}, a container runtime`, () => {
    const { signal } = new AbortController();
    let runtime: RuntimeUnderTest;
    let client: RuntimeClient;

    before(async () => {
      runtime = await open();
      client = await RuntimeClient.connect(runtime.socketPath, { signal });
    });

    after(async () => {
      await client?.[Symbol.asyncDispose]();
      await runtime?.[Symbol.asyncDispose]();
    });

    test("tells its name and version", async () => {
      const version = await client.version({ signal });

      assert.equal(version.name, "containerd");
      assert.match(version.version, /^v?2\.\d+\.\d+/);
    });

    test("pulls by tag, and then has the image by id, tag and digest", async () => {
      const id = await client.pull(runtime.reference, { timeoutMs, signal });

      const image = await client.imageStatus(runtime.reference, { signal });
      assert.ok(image);
      assert.equal(image.id, id);
      assert.deepEqual(image.tags, [runtime.reference]);
      assert.match(image.digests.join(), /^[^@]+@sha256:[0-9a-f]{64}$/);
      assert.ok(image.sizeBytes > 0);
      assert.equal(image.pinned, false);
      assert.deepEqual(await client.imageStatus(image.digests[0] ?? "", { signal }), image);
      assert.deepEqual(await client.imageStatus(id, { signal }), image);
      const listed = await client.listImages({ signal });
      assert.deepEqual(
        listed.find((other) => other.id === id),
        image,
      );
    });

    test("pulls again what it has, to the same id", async () => {
      const first = await client.pull(runtime.reference, { timeoutMs, signal });

      assert.equal(await client.pull(runtime.reference, { timeoutMs, signal }), first);
    });

    test("pulls by digest without leaving a tag", async () => {
      await client.pull(runtime.reference, { timeoutMs, signal });
      const byTag = await client.imageStatus(runtime.reference, { signal });
      const byDigest = byTag?.digests[0] ?? "";
      await client.remove(runtime.reference, { signal });

      const id = await client.pull(byDigest, { timeoutMs, signal });

      assert.equal(id, byTag?.id);
      assert.deepEqual(await client.imageStatus(byDigest, { signal }), { ...byTag, tags: [] });
      assert.equal(await client.imageStatus(runtime.reference, { signal }), undefined);
    });

    test("says that an image is not in the registry", async () => {
      await assert.rejects(
        client.pull(runtime.missing, { timeoutMs, signal }),
        (error) =>
          error instanceof PullError &&
          error.code === "IMAGE_NOT_FOUND" &&
          !error.retryable &&
          error.reason.endsWith(`${runtime.missing}: not found`),
      );

      assert.equal(await client.imageStatus(runtime.missing, { signal }), undefined);
    });

    test("removes an image, and an image that is not there", async () => {
      const id = await client.pull(runtime.reference, { timeoutMs, signal });

      await client.remove(runtime.reference, { signal });
      await client.remove(runtime.reference, { signal });

      assert.equal(await client.imageStatus(id, { signal }), undefined);
      const images = await client.listImages({ signal });
      assert.ok(!images.some((image) => image.id === id));
    });

    test("tells where its images lie", async () => {
      const [filesystem] = await client.imageFsInfo({ signal });

      assert.match(filesystem?.mountpoint ?? "", /^\//);
      assert.ok((filesystem?.usedBytes ?? -1) >= 0);
    });

    test("shows what it downloads, and that a download does not go on", async () => {
      await client.remove(runtime.reference, { signal });
      await using _stall = await runtime.stallDownloads();
      const caller = new AbortController();
      const pull = client.pull(runtime.reference, { timeoutMs, signal: caller.signal });
      const failed = assert.rejects(pull, /enough/);
      const layers = async (): Promise<Ingest[]> =>
        (await client.ingests({ signal })).filter(({ ref }) => ref.startsWith("layer-sha256:"));

      const [first] = await waitFor(
        async () => {
          const found = await layers();
          return found.some(({ offsetBytes }) => offsetBytes > 0) && found;
        },
        { what: "bytes of a layer", timeoutMs, signal },
      );
      assert.match(first?.ref ?? "", /^layer-sha256:[0-9a-f]{64}$/);
      await sleep(500, undefined, { signal }); // In which a download that goes on would have moved.
      assert.deepEqual((await layers())[0], first);

      caller.abort(new Error("The caller has enough"));
      await failed;
    });

    test("shows the blobs that it has", async () => {
      await client.pull(runtime.reference, { timeoutMs, signal });
      const image = await client.imageStatus(runtime.reference, { signal });
      const digest = image?.digests[0]?.split("@")[1] ?? "";

      const manifest = await client.readBlob(digest, { signal });
      assert.match(Buffer.from(manifest ?? []).toString(), /"schemaVersion": ?2/);
      const absent = `sha256:${"0".repeat(64)}`;
      assert.equal(await client.readBlob(absent, { signal }), undefined);
    });

    test("gives up a call that is aborted, with the caller's reason", async () => {
      const caller = new AbortController();
      const reason = new Error("The caller has enough");
      const pull = client.pull(runtime.reference, { timeoutMs, signal: caller.signal });

      caller.abort(reason);

      await assert.rejects(pull, reason);
    });

    test("reports names that come and go, until the reader has enough", async () => {
      const reader = new AbortController();
      const reason = new Error("The reader has enough");
      const seen: ImageEvent[] = [];
      const reading = collect(client.imageEvents({ signal: reader.signal }), seen);

      // A subscription is not acknowledged, so events are made until one of each has come.
      await waitFor(
        async () => {
          await client.pull(runtime.reference, { timeoutMs, signal });
          await client.remove(runtime.reference, { signal });
          return (["create", "delete"] as const).every((type) =>
            seen.some((event) => event.type === type && event.name === runtime.reference),
          );
        },
        { what: "an event of each kind", timeoutMs, signal },
      );
      reader.abort(reason);

      await assert.rejects(reading, reason);
    });

    test("fails what is in flight when it dies, and serves the same client when it is back", async () => {
      const events = collect(client.imageEvents({ signal }), []);
      await client.pull(runtime.reference, { timeoutMs, signal });

      const [lost] = await Promise.allSettled([events, runtime.kill()]);
      assert.ok(lost.status === "rejected");
      assert.equal(lost.reason.code, "RUNTIME_UNAVAILABLE");
      await assert.rejects(client.pull(runtime.reference, { timeoutMs, signal }), {
        name: "PullError",
        code: "RUNTIME_UNAVAILABLE",
        retryable: true,
      });
      await assert.rejects(client.listImages({ signal }), { code: "RUNTIME_UNAVAILABLE" });

      await runtime.startAgain();
      await waitFor(() => client.version({ signal }), { what: "the runtime", timeoutMs, signal });
      assert.ok(await client.imageStatus(runtime.reference, { signal }));
    });
  });
}

async function collect(events: AsyncIterable<ImageEvent>, into: ImageEvent[]): Promise<void> {
  for await (const event of events) into.push(event);
}
