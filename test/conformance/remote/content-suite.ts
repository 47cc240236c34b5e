import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { after, before, describe, test } from "node:test";

import type { ContentTarget, Descriptor, ManifestContent } from "#oci/content.ts";

/** A place where content is kept, for one run of the suite. */
export interface TargetUnderTest extends AsyncDisposable {
  /** A repository by its path. What was never written to is not there. */
  repository(path: string): ContentTarget;
}

const ociIndex = "application/vnd.oci.image.index.v1+json";
const ociManifest = "application/vnd.oci.image.manifest.v1+json";
const ociConfig = "application/vnd.oci.image.config.v1+json";
const ociLayer = "application/vnd.oci.image.layer.v1.tar+gzip";
const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json";

/** More tags than registries give at once. */
const manyTags = 1_010;

/** Bytes and what describes them. */
export interface Blob {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

/** Makes a blob that differs for each seed. */
export function aBlob(sizeBytes: number, seed: string, mediaType: string = ociLayer): Blob {
  const pattern = Buffer.from(hash("sha512", seed, "buffer"));
  const bytes = Buffer.alloc(sizeBytes, pattern);
  // No two places look alike, so that bytes in the wrong place are noticed.
  for (let place = 0; place + 4 <= sizeBytes; place += 1_000) bytes.writeUInt32LE(place, place);
  return { bytes, descriptor: { mediaType, digest: digestOf(bytes), sizeBytes } };
}

/** The digest that bytes have. */
export function digestOf(bytes: Buffer): string {
  return `sha256:${hash("sha256", bytes)}`;
}

function aManifest(mediaType: string, value: object): ManifestContent {
  // Indented, as nobody would write it anew.
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...value }, null, 3));
  return { mediaType, digest: digestOf(bytes), bytes };
}

const written = ({ mediaType, digest, sizeBytes }: Descriptor): object => ({
  mediaType,
  digest,
  size: sizeBytes,
});

const describes = ({ mediaType, digest, bytes }: ManifestContent): object =>
  written({ mediaType, digest, sizeBytes: bytes.length });

/** Reads a blob whole, from an offset on. */
export async function read(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const copies: Buffer[] = [];
  for await (const chunk of chunks) copies.push(Buffer.from(chunk));
  return Buffer.concat(copies);
}

/** Gives bytes in chunks that are overwritten when the next one is asked for, as a source may. */
export async function* inChunks(bytes: Buffer, fromByte: number): AsyncGenerator<Buffer, void> {
  const chunk = Buffer.alloc(40_000);
  for (let start = fromByte; start < bytes.length; start += chunk.length) {
    const copied = bytes.copy(chunk, 0, start);
    yield chunk.subarray(0, copied);
    chunk.fill(0);
  }
}

/**
 * Declares what every {@link ContentTarget} does.
 *
 * @param name - of the kind of target, like `An OCI layout`.
 */
export function contentTargetSuite(name: string, start: () => Promise<TargetUnderTest>): void {
  describe(`${name}, a target of content`, () => {
    const { signal } = new AbortController();
    let target: TargetUnderTest;

    before(async () => {
      target = await start();
    });

    after(async () => {
      await target?.[Symbol.asyncDispose]();
    });

    const write = async (
      to: ContentTarget,
      { descriptor, bytes }: Blob,
      onProgress?: (sentBytes: number) => void,
    ): Promise<void> => {
      const open = (fromByte: number) => inChunks(bytes, fromByte);
      await to.writeBlob(descriptor, open, { signal, ...(onProgress && { onProgress }) });
    };

    /** Writes an image of one layer. */
    const anImage = async (
      to: ContentTarget,
      seed: string,
      extra: object = {},
      mediaType: string = ociManifest,
    ): Promise<ManifestContent> => {
      const config = aBlob(100, `config of ${seed}`, ociConfig);
      const layer = aBlob(1_000, `layer of ${seed}`);
      await write(to, config);
      await write(to, layer);
      const { descriptor } = layer;
      const contents = { config: written(config.descriptor), layers: [written(descriptor)] };
      return aManifest(mediaType, { ...contents, ...extra });
    };

    test("has nothing where nothing was written", async () => {
      const repository = target.repository("team/none");
      const { descriptor } = aBlob(10, "none");

      assert.equal(await repository.find("latest", { signal }), undefined);
      assert.equal(await repository.find(descriptor.digest, { signal }), undefined);
      assert.equal(await repository.manifest("latest", { signal }), undefined);
      assert.equal(await repository.manifest(descriptor.digest, { signal }), undefined);
      assert.equal(await repository.hasBlob(descriptor.digest, { signal }), false);
      assert.deepEqual(await Array.fromAsync(repository.tags({ signal })), []);
      assert.deepEqual(await repository.referrers(descriptor.digest, { signal }), []);
      await assert.rejects(read(repository.blob(descriptor, { signal })), {
        code: "NOT_FOUND",
        retryable: false,
      });
    });

    for (const sizeBytes of [1, 100, 65_536, 65_537, 3_000_001]) {
      test(`keeps a blob of ${sizeBytes} bytes`, async () => {
        const repository = target.repository("team/blobs");
        const blob = aBlob(sizeBytes, `${sizeBytes}`);
        const { descriptor, bytes } = blob;
        const sent: number[] = [];

        await write(repository, blob, (sentBytes) => sent.push(sentBytes));

        assert.equal(await repository.hasBlob(descriptor.digest, { signal }), true);
        assert.ok((await read(repository.blob(descriptor, { signal }))).equals(bytes));
        assert.equal(sent.at(-1), sizeBytes);
        assert.deepEqual(
          sent,
          sent.toSorted((a, b) => a - b),
        );
      });
    }

    test("reads a blob from an offset on, and from its end nothing", async () => {
      const repository = target.repository("team/blobs");
      const blob = aBlob(200_000, "offsets");
      const { descriptor, bytes } = blob;
      await write(repository, blob);

      for (const fromByte of [1, 65_536, 199_999]) {
        const found = await read(repository.blob(descriptor, { fromByte, signal }));
        assert.ok(found.equals(bytes.subarray(fromByte)), `from ${fromByte}`);
      }
      const end = repository.blob(descriptor, { fromByte: bytes.length, signal });
      assert.equal((await read(end)).length, 0);
    });

    test("can be left in the middle of a blob", async () => {
      const repository = target.repository("team/blobs");
      const blob = aBlob(3_000_000, "left");
      await write(repository, blob);

      for (let times = 0; times < 40; times++) {
        for await (const chunk of repository.blob(blob.descriptor, { signal })) {
          assert.ok(chunk.length > 0);
          break;
        }
      }

      assert.ok((await read(repository.blob(blob.descriptor, { signal }))).equals(blob.bytes));
    });

    const wrongs: Record<string, (bytes: Buffer) => Buffer> = {
      "other bytes": (bytes) => Buffer.from(bytes).fill(7, bytes.length - 1),
      "fewer bytes": (bytes) => bytes.subarray(0, -1),
      "more bytes": (bytes) => Buffer.concat([bytes, Buffer.from("x")]),
      "no bytes": () => Buffer.alloc(0),
    };
    for (const sizeBytes of [1_000, 1_000_000]) {
      for (const [fact, spoil] of Object.entries(wrongs)) {
        test(`takes no blob of ${sizeBytes} bytes from a source that has ${fact}`, async () => {
          const repository = target.repository("team/wrong");
          const { descriptor, bytes } = aBlob(sizeBytes, fact);
          const spoilt = spoil(bytes);

          const writing = repository.writeBlob(
            descriptor,
            (fromByte) => inChunks(spoilt, fromByte),
            { signal },
          );

          await assert.rejects(writing, {
            name: "WrongContentError",
            code: "WRONG_CONTENT",
            digest: descriptor.digest,
            retryable: false,
          });
          assert.equal(await repository.hasBlob(descriptor.digest, { signal }), false);
        });
      }
    }

    test("goes on with a source that broke off", async () => {
      const repository = target.repository("team/broken");
      const { descriptor, bytes } = aBlob(3_000_000, "broken");
      let opened = 0;
      const open = async function* (fromByte: number): AsyncGenerator<Buffer, void> {
        opened++;
        for await (const chunk of inChunks(bytes, fromByte)) {
          yield chunk;
          if (opened === 1 && fromByte + 1_500_000 < bytes.length) {
            throw Object.assign(new Error("The source broke off"), { retryable: true });
          }
        }
      };

      await repository.writeBlob(descriptor, open, { signal });

      assert.equal(opened, 2);
      assert.ok((await read(repository.blob(descriptor, { signal }))).equals(bytes));
    });

    test("gives up with what the source throws", async () => {
      const repository = target.repository("team/broken");
      const { descriptor } = aBlob(3_000_000, "gone");
      const fault = Object.assign(new Error("gone"), { code: "NOT_FOUND", retryable: false });
      const open = async function* (): AsyncGenerator<Buffer, void> {
        yield Buffer.alloc(1_000);
        throw fault;
      };

      await assert.rejects(
        repository.writeBlob(descriptor, open, { signal }),
        (error) => error === fault,
      );
      assert.equal(await repository.hasBlob(descriptor.digest, { signal }), false);
    });

    test("takes a blob that it has", async () => {
      const repository = target.repository("team/blobs");
      const blob = aBlob(100_000, "twice");

      await write(repository, blob);
      await write(repository, blob);

      assert.ok((await read(repository.blob(blob.descriptor, { signal }))).equals(blob.bytes));
    });

    test("takes one blob from two at once", async () => {
      const repository = target.repository("team/blobs");
      const blob = aBlob(2_000_000, "at once");

      await Promise.all([write(repository, blob), write(repository, blob)]);

      assert.ok((await read(repository.blob(blob.descriptor, { signal }))).equals(blob.bytes));
    });

    test("mounts a blob of another repository, or says that it does not", async () => {
      const blob = aBlob(100_000, "mounted");
      await write(target.repository("team/from"), blob);
      const repository = target.repository("team/to");
      const { digest } = blob.descriptor;

      const isMounted = await repository.mountBlob(digest, "team/from", { signal });

      assert.ok(!isMounted || (await repository.hasBlob(digest, { signal })));
      assert.equal(
        await repository.mountBlob(digestOf(Buffer.from("x")), "team/from", { signal }),
        false,
      );
    });

    test("keeps a manifest byte for byte, by digest and by tag", async () => {
      const repository = target.repository("team/app");
      for (const mediaType of [ociManifest, dockerManifest]) {
        const image = await anImage(repository, mediaType, {}, mediaType);
        const { digest } = image;

        await repository.putManifest(digest, image, { signal });
        assert.deepEqual(await repository.find(digest, { signal }), { mediaType, digest });
        await repository.putManifest("1.0", image, { signal });

        for (const name of [digest, "1.0"]) {
          assert.deepEqual(await repository.find(name, { signal }), { mediaType, digest });
          assert.deepEqual(await repository.manifest(name, { signal }), image);
        }
      }
    });

    test("keeps an index", async () => {
      const repository = target.repository("team/index");
      const children = await Promise.all(["a", "b"].map((seed) => anImage(repository, seed)));
      for (const child of children) await repository.putManifest(child.digest, child, { signal });
      const index = aManifest(ociIndex, {
        manifests: children.map((child, number) => ({
          ...describes(child),
          platform: { os: "linux", architecture: ["amd64", "arm64"][number] },
        })),
      });

      await repository.putManifest("latest", index, { signal });

      assert.deepEqual(await repository.manifest("latest", { signal }), index);
      assert.deepEqual(await repository.find("latest", { signal }), {
        mediaType: ociIndex,
        digest: index.digest,
      });
    });

    test("moves a tag", async () => {
      const repository = target.repository("team/moved");
      const [first, second] = [await anImage(repository, "1"), await anImage(repository, "2")];

      for (const image of [first, second])
        await repository.putManifest("latest", image, { signal });

      assert.equal((await repository.find("latest", { signal }))?.digest, second.digest);
      assert.equal((await repository.find(first.digest, { signal }))?.digest, first.digest);
      assert.deepEqual(await Array.fromAsync(repository.tags({ signal })), ["latest"]);
    });

    test(`lists ${manyTags} tags, each once`, async () => {
      const repository = target.repository("team/many");
      const image = await anImage(repository, "many");
      const tags = Array.from({ length: manyTags }, (_, number) => `t${number}`);
      for (let first = 0; first < tags.length; first += 10) {
        await Promise.all(
          tags
            .slice(first, first + 10)
            .map((tag) => repository.putManifest(tag, image, { signal })),
        );
      }

      const found = await Array.fromAsync(repository.tags({ signal }));
      let seen = 0;
      for await (const _ of repository.tags({ signal })) if (++seen === 3) break;

      assert.deepEqual(found.toSorted(), tags.toSorted());
      assert.equal(seen, 3);
    });

    test("knows what refers to a manifest", async () => {
      const repository = target.repository("team/signed");
      const image = await anImage(repository, "signed");
      await repository.putManifest("1", image, { signal });
      const subject = describes(image);
      const [signature, sbom] = [
        await anImage(repository, "signature", { artifactType: "application/signature", subject }),
        await anImage(repository, "sbom", { subject }),
      ];

      await Promise.all(
        [signature, sbom, signature].map((referrer) =>
          repository.putManifest(referrer.digest, referrer, { signal }),
        ),
      );

      const found = await repository.referrers(image.digest, { signal });
      assert.deepEqual(
        found.toSorted((a, b) => (a.digest === signature.digest ? -1 : b.digest.length)),
        [
          {
            mediaType: ociManifest,
            digest: signature.digest,
            sizeBytes: signature.bytes.length,
            artifactType: "application/signature",
          },
          {
            mediaType: ociManifest,
            digest: sbom.digest,
            sizeBytes: sbom.bytes.length,
            artifactType: ociConfig,
          },
        ],
      );
      assert.deepEqual(await repository.referrers(signature.digest, { signal }), []);
    });

    test("removes a manifest with its tags, or says that it does not", async () => {
      const repository = target.repository("team/removed");
      const [first, second] = [await anImage(repository, "1"), await anImage(repository, "2")];
      for (const tag of ["a", "b"]) await repository.putManifest(tag, first, { signal });
      await repository.putManifest("c", second, { signal });

      const removed = await repository.deleteManifest(first.digest, { signal });
      if (removed === "unsupported") return;

      assert.equal(removed, "deleted");
      assert.equal(await repository.deleteManifest(first.digest, { signal }), "absent");
      assert.equal(await repository.find(first.digest, { signal }), undefined);
      assert.equal(await repository.find("a", { signal }), undefined);
      assert.equal((await repository.find("c", { signal }))?.digest, second.digest);
    });

    test("removes a tag alone, or says that it does not", async () => {
      const repository = target.repository("team/untagged");
      const image = await anImage(repository, "untagged");
      for (const tag of ["a", "b"]) await repository.putManifest(tag, image, { signal });

      const removed = await repository.deleteManifest("a", { signal });

      assert.ok(removed === "deleted" || removed === "unsupported", removed);
      const isThere = (await repository.find("a", { signal })) !== undefined;
      assert.equal(isThere, removed === "unsupported");
      assert.equal((await repository.find("b", { signal }))?.digest, image.digest);
      assert.equal((await repository.find(image.digest, { signal }))?.digest, image.digest);
    });

    test("refuses what is neither a tag nor a digest", async () => {
      const repository = target.repository("team/app");

      for (const name of ["", "../x", "sha256:1", "a/b", "-a"]) {
        const refused = { name: "InvalidReferenceError" };
        await assert.rejects(repository.find(name, { signal }), refused);
        await assert.rejects(repository.manifest(name, { signal }), refused);
        await assert.rejects(repository.deleteManifest(name, { signal }), refused);
      }
      await assert.rejects(repository.hasBlob("sha256:../x", { signal }));
    });

    test("stops with the reason why it is to stop", async () => {
      const repository = target.repository("team/stopped");
      const { descriptor, bytes } = aBlob(3_000_000, "stopped");
      const stop = new AbortController();
      const reason = new Error("enough");
      const open = async function* (): AsyncGenerator<Buffer, void> {
        for await (const chunk of inChunks(bytes, 0)) {
          yield chunk;
          stop.abort(reason);
        }
      };

      const writing = repository.writeBlob(descriptor, open, { signal: stop.signal });

      await assert.rejects(writing, (error) => error === reason);
      await assert.rejects(
        repository.find("latest", { signal: stop.signal }),
        (error) => error === reason,
      );
      assert.equal(await repository.hasBlob(descriptor.digest, { signal }), false);
    });
  });
}
