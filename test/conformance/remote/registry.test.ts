import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { after, before, describe, test } from "node:test";

import { systemClock } from "#async/clock.ts";
import type { Login } from "#remote/keyring.ts";
import { networkPolicy } from "#remote/network-policy.ts";
import { RegistryClient } from "#remote/registry-client.ts";
import { silentLog } from "#telemetry/log.ts";
import { startDistribution, type Distribution } from "./distribution.ts";

/** The registry's program may have to be built first. */
const startTimeoutMs = 30 * 60_000;

const actTimeoutMs = 30_000;

const ociIndex = "application/vnd.oci.image.index.v1+json";
const ociManifest = "application/vnd.oci.image.manifest.v1+json";

interface Content {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly body: string;
}

function content(mediaType: string, body: string): Content {
  return { mediaType, digest: `sha256:${hash("sha256", body)}`, size: body.length, body };
}

const descriptor = ({ mediaType, digest, size }: Content) => ({ mediaType, digest, size });

function anImage(architecture: string): { blobs: Content[]; manifest: Content } {
  const platform = { architecture, os: "linux" };
  const config = content(
    "application/vnd.oci.image.config.v1+json",
    JSON.stringify({ ...platform, rootfs: { type: "layers", diff_ids: [] } }),
  );
  const layer = content("application/vnd.oci.image.layer.v1.tar+gzip", `layer of ${architecture}`);
  const manifest = {
    schemaVersion: 2,
    mediaType: ociManifest,
    config: descriptor(config),
    layers: [descriptor(layer)],
  };
  return { blobs: [config, layer], manifest: content(ociManifest, JSON.stringify(manifest)) };
}

const images = { amd64: anImage("amd64"), arm64: anImage("arm64") };
const index = content(
  ociIndex,
  JSON.stringify({
    schemaVersion: 2,
    mediaType: ociIndex,
    manifests: Object.entries(images).map(([architecture, { manifest }]) => ({
      ...descriptor(manifest),
      platform: { architecture, os: "linux" },
    })),
  }),
);
const sizeOf = ({ blobs }: { blobs: Content[] }): number =>
  blobs.reduce((sum, { size }) => sum + size, 0);

interface Push {
  readonly host: string;
  readonly authorization: string | undefined;
}

async function send({ host, authorization }: Push, method: string, path: string, body?: Content) {
  const answer = await fetch(new URL(path, `http://${host}`), {
    method,
    headers: {
      ...(authorization !== undefined && { authorization }),
      ...(body && { "content-type": body.mediaType }),
    },
    ...(body && { body: body.body }),
    signal: AbortSignal.timeout(actTimeoutMs),
  });
  await answer.arrayBuffer();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer;
}

async function pushBlob(push: Push, repository: string, blob: Content): Promise<void> {
  const started = await send(push, "POST", `/v2/${repository}/blobs/uploads/`);
  const upload = new URL(started.headers.get("location") ?? "", `http://${push.host}`);
  upload.searchParams.set("digest", blob.digest);
  const path = upload.pathname + upload.search;
  await send(push, "PUT", path, { ...blob, mediaType: "application/octet-stream" });
}

async function pushIndex(push: Push, repository: string, tag: string): Promise<void> {
  for (const { blobs, manifest } of Object.values(images)) {
    for (const blob of blobs) await pushBlob(push, repository, blob);
    await send(push, "PUT", `/v2/${repository}/manifests/${manifest.digest}`, manifest);
  }
  await send(push, "PUT", `/v2/${repository}/manifests/${tag}`, index);
}

function describeRegistry(name: string, login: { username: string; password: string } | undefined) {
  describe(`RegistryClient at CNCF distribution, ${name}`, () => {
    const { signal } = new AbortController();
    const logins: Login[] = login ? [login] : [];
    const authorization =
      login && `Basic ${Buffer.from(`${login.username}:${login.password}`).toString("base64")}`;
    let registry: Distribution;
    let client: RegistryClient;
    let push: Push;

    before(async () => {
      registry = await startDistribution(login, { signal: AbortSignal.timeout(startTimeoutMs) });
      client = new RegistryClient({
        userAgent: "coral/conformance",
        log: silentLog,
        clock: systemClock,
        network: networkPolicy({ deniedNetworks: [], allowedNetworks: ["127.0.0.1/32"] }),
        plainHttp: [registry.host],
      });
      push = { host: registry.host, authorization };
      await pushIndex(push, "team/app", "1");
    });

    after(async () => {
      await client?.[Symbol.asyncDispose]();
      await registry?.[Symbol.asyncDispose]();
    });

    test("resolves a tag to the index's digest", async () => {
      const found = await client.resolve(`${registry.host}/team/app:1`, { logins, signal });

      assert.deepEqual(found, { digest: index.digest, mediaType: ociIndex });
    });

    test("resolves a digest to itself", async () => {
      const { digest } = images.arm64.manifest;
      const reference = `${registry.host}/team/app@${digest}`;

      const found = await client.resolve(reference, { logins, signal });

      assert.deepEqual(found, { digest, mediaType: ociManifest });
    });

    test("knows the sizes of an index with two platforms", async () => {
      const reference = `${registry.host}/team/app:1`;

      assert.deepEqual(await client.sizes(reference, index.digest, { logins, signal }), [
        { platform: "linux/amd64", sizeBytes: sizeOf(images.amd64) },
        { platform: "linux/arm64", sizeBytes: sizeOf(images.arm64) },
      ]);
    });

    test("knows the size of a single image from its configuration", async () => {
      const { digest } = images.arm64.manifest;
      const reference = `${registry.host}/team/app@${digest}`;

      assert.deepEqual(await client.sizes(reference, digest, { logins, signal }), [
        { platform: "linux/arm64", sizeBytes: sizeOf(images.arm64) },
      ]);
    });

    test("lists tags over more than one page", async () => {
      const tags = Array.from({ length: 1_010 }, (_, number) => `t${number}`);
      await pushIndex(push, "team/many", "t0");
      for (let first = 0; first < tags.length; first += 10) {
        await Promise.all(
          tags
            .slice(first, first + 10)
            .map((tag) => send(push, "PUT", `/v2/team/many/manifests/${tag}`, index)),
        );
      }
      const repository = `${registry.host}/team/many`;

      const found = await client.tags(repository, { logins, maxTags: 10_000, signal });
      const some = await client.tags(repository, { logins, maxTags: 1_005, signal });

      assert.deepEqual(found.toSorted(), tags.toSorted());
      assert.equal(some.length, 1_005);
    });

    test("tells what is not there", async () => {
      const { host } = registry;
      const notFound = { name: "RegistryError", code: "NOT_FOUND", retryable: false };

      await assert.rejects(client.resolve(`${host}/team/app:2`, { logins, signal }), notFound);
      await assert.rejects(client.resolve(`${host}/team/none:1`, { logins, signal }), notFound);
      await assert.rejects(client.tags(`${host}/team/none`, { logins, maxTags: 9, signal }), {
        ...notFound,
        reason: /^NAME_UNKNOWN: /,
      });
    });

    if (login) {
      test("is denied with a wrong password, and without a login", async () => {
        const reference = `${registry.host}/team/app:1`;
        const wrong = { ...login, password: "wrong" };

        for (const logins of [[wrong], []]) {
          await assert.rejects(client.resolve(reference, { logins, signal }), {
            name: "RegistryError",
            code: "DENIED",
            retryable: false,
          });
          await assert.rejects(
            client.tags(`${registry.host}/team/app`, { logins, maxTags: 9, signal }),
            {
              code: "DENIED",
              reason: /^UNAUTHORIZED: /,
            },
          );
        }
      });

      test("goes on with the next login where one is denied", async () => {
        const wrong = { ...login, password: "wrong" };

        const found = await client.resolve(`${registry.host}/team/app:1`, {
          logins: [wrong, login],
          signal,
        });

        assert.equal(found.digest, index.digest);
      });
    }
  });
}

describeRegistry("open to all", undefined);
describeRegistry("with htpasswd", { username: "coral", password: "reef" });
