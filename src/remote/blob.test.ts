import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";

import { systemClock } from "#async/clock.ts";
import type { Descriptor } from "#oci/content.ts";
import { silentLog } from "#telemetry/log.ts";
import { BlobHost } from "#test/blob-host.ts";
import { RecordingHost } from "#test/recording-host.ts";
import { networkPolicy } from "./network-policy.ts";
import { RegistryClient, type RegistryClientOptions } from "./registry-client.ts";
import type { RemoteRepository } from "./remote-repository.ts";

const { signal } = new AbortController();
const anna = { username: "anna", password: "anemone" };
const basic = `Basic ${Buffer.from("anna:anemone").toString("base64")}`;

const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, place) => place % 251));
const descriptor: Descriptor = {
  mediaType: "application/octet-stream",
  digest: `sha256:${hash("sha256", bytes)}`,
  sizeBytes: bytes.length,
};

async function setUp({ plainHttp = [], ...options }: Partial<RegistryClientOptions> = {}) {
  const host = await BlobHost.start();
  const client = new RegistryClient({
    userAgent: "coral/test",
    log: silentLog,
    clock: systemClock,
    network: networkPolicy({ deniedNetworks: [], allowedNetworks: ["127.0.0.1/32"] }),
    plainHttp: [host.host, "127.0.0.1", ...plainHttp],
    random: () => 1 - 1e-9, // Waits between attempts are as short as can be.
    ...options,
  });
  const repository = client.repository(`${host.host}/app`, {
    logins: [anna],
    actions: "pull,push",
  });
  return {
    host,
    client,
    repository,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await host[Symbol.asyncDispose]();
    },
  };
}

async function read(repository: RemoteRepository, wanted = descriptor): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of repository.blob(wanted, { signal })) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* from(start: number): AsyncGenerator<Buffer, void> {
  for (let place = start; place < bytes.length; place += 10_000) {
    yield bytes.subarray(place, place + 10_000);
  }
}

async function* spoilt(): AsyncGenerator<Buffer, void> {
  yield bytes.subarray(0, -1);
  yield Buffer.from("!");
}

describe("RemoteRepository.blob()", () => {
  test("goes on where the connection broke off, as often as there was progress", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.keep(bytes);
    host.faults.breakDownloads.push(...Array.from({ length: 8 }, () => 20_000));

    assert.ok((await read(repository)).equals(bytes));

    assert.deepEqual(host.log, [
      "GET DIGEST",
      ...Array.from({ length: 8 }, (_, part) => `GET DIGEST bytes=${(part + 1) * 20_000}-`),
    ]);
  });

  test("gives up where nothing more comes", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.keep(bytes);
    host.faults.breakDownloads.push(20_000, ...Array.from({ length: 20 }, () => 0));

    await assert.rejects(read(repository), { code: "UNREACHABLE", retryable: true });

    assert.ok(host.requests.length < 20);
  });

  test("skips what it has where the registry knows no ranges", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.keep(bytes);
    host.faults.ignoresRanges = true;
    host.faults.breakDownloads.push(20_000, 10_000);

    assert.ok((await read(repository)).equals(bytes));
  });

  test("takes a stream for broken off from which no byte comes", async () => {
    await using world = await setUp({ idleTimeoutMs: 100 });
    const { host, repository } = world;
    host.keep(bytes);
    host.faults.stallDownloads.push(20_000);

    assert.ok((await read(repository)).equals(bytes));

    assert.deepEqual(host.log, ["GET DIGEST", "GET DIGEST bytes=20000-"]);
  });

  test("does not count the time that its reader takes", async () => {
    await using world = await setUp({ idleTimeoutMs: 20 });
    const { host, repository } = world;
    host.keep(bytes);
    let count = 0;

    for await (const chunk of repository.blob(descriptor, { signal })) {
      count += chunk.length;
      await systemClock.sleep(30, { signal });
    }

    assert.equal(count, bytes.length);
    assert.equal(host.requests.length, 1);
  });

  test("believes no answer with another range", async () => {
    for (const range of ["bytes 0-299999/300000", "bytes */300000", "20000-", ""]) {
      await using world = await setUp();
      const { host, repository } = world;
      host.keep(bytes);
      host.faults.breakDownloads.push(20_000);
      host.faults.contentRange = range;

      await assert.rejects(read(repository), { code: "BAD_ANSWER" });
    }
  });

  test("refuses by its name what has another size than its descriptor", async () => {
    const sizes = [bytes.length - 1, bytes.length + 1];
    for (const sizeBytes of sizes) {
      await using world = await setUp();
      const { host, repository } = world;
      host.keep(bytes);

      await assert.rejects(read(repository, { ...descriptor, sizeBytes }), {
        code: "WRONG_CONTENT",
        digest: descriptor.digest,
        message: new RegExp(`from ${repository.name} is refused: it has 300000 bytes`),
      });
    }
  });

  test("carries the login to no blob store", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.authorization = basic;
    const { digest } = descriptor;
    await using store = await RecordingHost.start((_, response) => {
      response.writeHead(200, { "content-length": bytes.length }).end(bytes);
    });
    const location = `http://${store.host}/store?secret=1`;
    host.keep(bytes);
    await repository.hasBlob(digest, { signal });
    host.faults.refuse.push({ method: "GET", status: 307, headers: { location } });

    assert.ok((await read(repository)).equals(bytes));

    assert.deepEqual(store.authorizations, []);
    assert.equal(host.requests.at(-1)?.authorization, basic);
  });

  test("says whom it cannot find", async () => {
    await using world = await setUp();

    await assert.rejects(read(world.repository), {
      name: "RegistryError",
      code: "NOT_FOUND",
      message: new RegExp(`^Cannot read "${world.repository.name}@sha256:`),
    });
  });
});

describe("RemoteRepository.writeBlob()", () => {
  test("takes one POST and one PUT", async () => {
    await using world = await setUp();
    const { host, repository } = world;

    await repository.writeBlob(descriptor, from, { signal });

    assert.ok(host.blobs.get(descriptor.digest)?.equals(bytes));
    assert.deepEqual(host.log, ["POST uploads/", "PUT uploads/ID"]);
  });

  test("goes on with a PATCH from where the registry is, as often as there is progress", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.faults.breakUploads.push(100_000, 100_000);
    const starts: number[] = [];
    const open = (fromByte: number): AsyncIterable<Buffer> => {
      starts.push(fromByte);
      return from(fromByte);
    };

    await repository.writeBlob(descriptor, open, { signal });

    assert.ok(host.blobs.get(descriptor.digest)?.equals(bytes));
    assert.deepEqual(host.log, [
      "POST uploads/",
      "PUT uploads/ID",
      "HEAD DIGEST",
      "GET uploads/ID",
      "PATCH uploads/ID 100000-299999",
      "HEAD DIGEST",
      "GET uploads/ID",
      "PATCH uploads/ID 200000-299999",
      "PUT uploads/ID",
    ]);
    assert.deepEqual(starts, [0, 0, 0]); // Hashed again from the last place that it can go back to.
  });

  test("begins anew where the registry has forgotten the upload", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.faults.breakUploads.push(100_000);
    host.faults.forgetsUploads = true;

    await repository.writeBlob(descriptor, from, { signal });

    assert.ok(host.blobs.get(descriptor.digest)?.equals(bytes));
    assert.deepEqual(host.log.slice(-2), ["POST uploads/", "PUT uploads/ID"]);
  });

  test("is done where the blob is there and only the answer was lost", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.faults.losesAnswers = 1;

    await repository.writeBlob(descriptor, from, { signal });

    assert.deepEqual(host.log, ["POST uploads/", "PUT uploads/ID", "HEAD DIGEST"]);
  });

  test("gives up where it gets no further", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.faults.breakUploads.push(...Array.from({ length: 20 }, () => 1));

    await assert.rejects(repository.writeBlob(descriptor, from, { signal }), {
      code: "UNREACHABLE",
      retryable: true,
    });

    assert.equal(host.log.filter((line) => line.startsWith("PUT")).length, 6);
    assert.equal(host.log.at(-1), "DELETE uploads/ID");
  });

  test("tries nothing again that the registry refuses for good", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.faults.refuse.push({ method: "PUT", status: 403 });

    await assert.rejects(repository.writeBlob(descriptor, from, { signal }), { code: "DENIED" });

    assert.deepEqual(host.log, ["POST uploads/", "PUT uploads/ID", "DELETE uploads/ID"]);
  });

  test("has the registry forget what turned out to be wrong, and never sends the end of it", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    await assert.rejects(repository.writeBlob(descriptor, spoilt, { signal }), {
      code: "WRONG_CONTENT",
      digest: descriptor.digest,
    });

    assert.equal(host.blobs.size, 0);
    assert.equal(host.log.at(-1), "DELETE uploads/ID");
  });

  test("sends nothing to a host that a registry names and that is not known to speak plain HTTP", async () => {
    await using world = await setUp();
    await using elsewhere = await BlobHost.start();
    const { host, repository } = world;
    host.faults.uploadsAt = `http://${elsewhere.host}/v1/kv/x`;

    await assert.rejects(repository.writeBlob(descriptor, from, { signal }), {
      code: "NOT_ALLOWED",
    });
    assert.equal(
      await repository.mountBlob(descriptor.digest, "other", { signal }).catch(() => false),
      false,
    );
    assert.deepEqual(elsewhere.requests, []);
  });

  test("shows its login at the registry itself, wherever uploads go on", async () => {
    await using elsewhere = await BlobHost.start();
    await using world = await setUp({ plainHttp: [elsewhere.host] });
    const { host, repository } = world;
    host.authorization = basic;
    await repository.hasBlob(descriptor.digest, { signal });
    host.faults.uploadsAt = `http://${elsewhere.host}/v2/app/blobs/uploads/`;

    await assert.rejects(repository.writeBlob(descriptor, from, { signal }));

    assert.ok(elsewhere.requests.length > 0);
    assert.ok(elsewhere.requests.every(({ authorization }) => authorization === undefined));
    assert.ok(host.requests.slice(1).every(({ authorization }) => authorization === basic));
  });

  for (const location of ["ftp://a.test/", "http://anna:anemone@127.0.0.1/", "http://["]) {
    test(`goes on nowhere with "Location: ${location}"`, async () => {
      await using world = await setUp();
      const { host, repository } = world;
      host.faults.uploadsAt = location;

      await assert.rejects(repository.writeBlob(descriptor, from, { signal }), {
        code: "BAD_ANSWER",
      });
    });
  }

  test("sends again with a login what was sent without", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.faults.refuse.push({
      method: "PUT",
      status: 401,
      headers: { "www-authenticate": 'Basic realm="blobs"' },
    });

    await repository.writeBlob(descriptor, from, { signal });

    assert.ok(host.blobs.get(descriptor.digest)?.equals(bytes));
    assert.equal(host.requests.at(-1)?.authorization, basic);
  });

  test("waits as a registry asks that is asked too often", async () => {
    await using world = await setUp();
    const { host, repository } = world;
    host.faults.refuse.push({ method: "POST", status: 429, headers: { "retry-after": "0" } });
    host.faults.refuse.push({ method: "PUT", status: 429, headers: { "retry-after": "0" } });

    await repository.writeBlob(descriptor, from, { signal });

    assert.ok(host.blobs.get(descriptor.digest)?.equals(bytes));
  });
});
