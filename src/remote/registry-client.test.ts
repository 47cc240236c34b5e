import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";

import { silentLog } from "#telemetry/log.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { RecordingHost, respondJson, type Respond } from "#test/recording-host.ts";
import { networkPolicy } from "./network-policy.ts";
import { RegistryClient, RegistryError, type RegistryClientOptions } from "./registry-client.ts";

const ociIndex = "application/vnd.oci.image.index.v1+json";
const ociManifest = "application/vnd.oci.image.manifest.v1+json";
const ociConfig = "application/vnd.oci.image.config.v1+json";
const ociLayer = "application/vnd.oci.image.layer.v1.tar+gzip";

const { signal } = new AbortController();
const anybody = { logins: [], signal };
const digest = `sha256:${"a".repeat(64)}`;

function aClient(hosts: readonly RecordingHost[], options: Partial<RegistryClientOptions> = {}) {
  return new RegistryClient({
    userAgent: "coral/test",
    log: silentLog,
    clock: new ManualClock(),
    network: networkPolicy({ deniedNetworks: [], allowedNetworks: ["127.0.0.0/8", "::1/128"] }),
    plainHttp: hosts.map(({ host }) => host),
    timeoutMs: 20_000,
    ...options,
  });
}

interface Content {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly body: string;
}

function content(mediaType: string, value: unknown): Content {
  const body = JSON.stringify(value);
  return { mediaType, digest: `sha256:${hash("sha256", body)}`, size: body.length, body };
}

const descriptor = ({ mediaType, digest, size }: Content) => ({ mediaType, digest, size });

function anImage(
  platform: object,
  ...layerSizes: number[]
): { config: Content; manifest: Content } {
  const config = content(ociConfig, platform);
  const layers = layerSizes.map((size) => ({ mediaType: ociLayer, digest, size }));
  const manifest = { schemaVersion: 2, config: descriptor(config), layers };
  return { config, manifest: content(ociManifest, manifest) };
}

/** Serves content by digest, and the first of it by each tag too. */
function serving(...contents: Content[]): Respond {
  return ({ method, path }, response) => {
    const name = path.split("/").at(-1) ?? "";
    const found = contents.find(({ digest }) => digest === name) ?? contents[0];
    if (!found || (name.startsWith("sha256:") && found.digest !== name)) {
      respondJson(response, 404, { errors: [{ code: "MANIFEST_UNKNOWN", message: "none" }] });
      return;
    }
    response.writeHead(200, {
      "content-type": found.mediaType,
      "docker-content-digest": found.digest,
    });
    response.end(method === "HEAD" ? undefined : found.body);
  };
}

async function refusal(act: Promise<unknown>): Promise<RegistryError> {
  const error = await act.then(
    () => assert.fail("nothing was refused"),
    (error: unknown) => error,
  );
  if (!(error instanceof RegistryError)) throw error;
  return error;
}

describe("RegistryClient.resolve()", () => {
  test("asks by HEAD for every kind of manifest", async () => {
    await using host = await RecordingHost.start((_, response) => {
      response.writeHead(200, {
        "content-type": `${ociIndex}; a=b`,
        "docker-content-digest": digest,
      });
      response.end();
    });
    await using client = aClient([host]);

    const found = await client.resolve(`${host.host}/team/app`, anybody);

    assert.deepEqual(found, { digest, mediaType: ociIndex });
    assert.deepEqual(
      host.requests.map(({ method, path }) => `${method} ${path}`),
      ["HEAD /v2/team/app/manifests/latest"],
    );
    for (const type of [
      ociIndex,
      ociManifest,
      "application/vnd.docker.distribution.manifest.list.v2+json",
      "application/vnd.docker.distribution.manifest.v2+json",
    ]) {
      assert.ok(host.requests[0]?.accept?.split(", ").includes(type), type);
    }
  });

  const { manifest } = anImage({ os: "linux", architecture: "amd64" }, 5);
  const poorHeaders = {
    "no digest": { "content-type": ociManifest },
    "a digest that is none": { "content-type": ociManifest, "docker-content-digest": "sha256:1" },
    "no type": { "docker-content-digest": manifest.digest },
    "another type": { "content-type": "text/plain", "docker-content-digest": manifest.digest },
  };
  for (const [fact, headers] of Object.entries(poorHeaders)) {
    test(`reads the manifest where HEAD gives ${fact}`, async () => {
      await using host = await RecordingHost.start(({ method }, response) => {
        response.writeHead(200, headers);
        response.end(method === "HEAD" ? undefined : manifest.body);
      });
      await using client = aClient([host]);

      const found = await client.resolve(`${host.host}/app:1`, anybody);

      assert.deepEqual(found, { digest: manifest.digest, mediaType: ociManifest });
      assert.deepEqual(
        host.requests.map(({ method }) => method),
        ["HEAD", "GET"],
      );
    });
  }

  test("believes no page that is no manifest", async () => {
    await using host = await RecordingHost.start((_, response) => {
      response.writeHead(200, { "content-type": "text/html" }).end("<h1>Log in</h1>");
    });
    await using client = aClient([host]);

    const error = await refusal(client.resolve(`${host.host}/app:1`, anybody));

    assert.equal(error.code, "BAD_ANSWER");
    assert.equal(error.retryable, false);
  });

  test("believes no other digest than the one that was asked for", async () => {
    await using host = await RecordingHost.start((_, response) => {
      response.writeHead(200, { "content-type": ociIndex, "docker-content-digest": digest }).end();
    });
    await using client = aClient([host]);

    const reference = `${host.host}/app:1@sha256:${"b".repeat(64)}`;
    const error = await refusal(client.resolve(reference, anybody));

    assert.equal(error.code, "BAD_ANSWER");
    assert.match(host.requests[0]?.path ?? "", /sha256:b{64}$/);
  });

  test("asks Docker Hub where its registry is", async () => {
    await using client = aClient([], { network: { allows: () => false } });

    const { cause } = await refusal(client.resolve("debian", anybody));

    assert.match(String(cause), /registry-1\.docker\.io/);
  });

  const statuses = {
    400: { code: "BAD_ANSWER", retryable: false },
    401: { code: "DENIED", retryable: false },
    403: { code: "DENIED", retryable: false },
    404: { code: "NOT_FOUND", retryable: false },
    408: { code: "UNREACHABLE", retryable: true },
    429: { code: "THROTTLED", retryable: true },
    500: { code: "UNREACHABLE", retryable: true },
    503: { code: "UNREACHABLE", retryable: true },
  };
  for (const [status, wanted] of Object.entries(statuses)) {
    test(`takes status ${status} for ${wanted.code}`, async () => {
      await using host = await RecordingHost.start((_, response) => {
        response.writeHead(Number(status)).end();
      });
      await using client = aClient([host]);

      const { code, retryable, reason, message } = await refusal(
        client.resolve(`${host.host}/app:1`, anybody),
      );

      assert.deepEqual({ code, retryable }, wanted);
      assert.equal(reason, `it answers with status ${status}`);
      assert.equal(message, `Cannot resolve "${host.host}/app:1": ${code}: ${reason}`);
    });
  }

  const waits = {
    "30": 30_000,
    "Thu, 01 Jan 2026 00:01:00 GMT": 60_000, // The test's clock starts at midnight.
    "Wed, 31 Dec 2025 00:00:00 GMT": 0,
    "99999999999": 6 * 60 * 60_000,
    soon: undefined,
  };
  for (const [retryAfter, ms] of Object.entries(waits)) {
    test(`reads "Retry-After: ${retryAfter}" as ${ms} ms`, async () => {
      await using host = await RecordingHost.start((_, response) => {
        response.writeHead(429, { "retry-after": retryAfter }).end();
      });
      await using client = aClient([host]);

      const error = await refusal(client.resolve(`${host.host}/app:1`, anybody));

      assert.equal(error.code, "THROTTLED");
      assert.equal(error.retryAfterMs, ms);
    });
  }

  test("tells that nobody listens", async () => {
    const host = await RecordingHost.start(() => {});
    await using client = aClient([host]);
    const reference = `${host.host}/app:1`;
    await host[Symbol.asyncDispose]();

    const error = await refusal(client.resolve(reference, anybody));

    assert.equal(error.code, "UNREACHABLE");
    assert.equal(error.reason, "it refuses connections");
  });

  test("tells that the connection was lost", async () => {
    await using host = await RecordingHost.start((_, response) => {
      response.destroy();
    });
    await using client = aClient([host]);

    const error = await refusal(client.resolve(`${host.host}/app:1`, anybody));

    assert.equal(error.code, "UNREACHABLE");
    assert.equal(error.reason, "the connection was lost");
  });

  test("waits no longer than it may for an answer", async () => {
    await using host = await RecordingHost.start(() => {});
    await using client = aClient([host], { timeoutMs: 100 });

    const error = await refusal(client.resolve(`${host.host}/app:1`, anybody));

    assert.equal(error.code, "UNREACHABLE");
    assert.equal(error.reason, "no answer within 100 ms");
  });

  test("waits no longer than it may for the end of an answer that trickles in", async () => {
    const trickles: NodeJS.Timeout[] = [];
    await using host = await RecordingHost.start(({ method }, response) => {
      response.writeHead(200);
      if (method === "HEAD") response.end();
      else trickles.push(setInterval(() => response.write(" "), 20));
    });
    await using client = aClient([host], { timeoutMs: 300 });

    const error = await refusal(client.resolve(`${host.host}/app:1`, anybody));
    for (const trickle of trickles) clearInterval(trickle);

    assert.equal(error.reason, "no answer within 300 ms");
  });

  test("rejects with the signal's reason if aborted", async () => {
    const stop = new AbortController();
    const reason = new Error("enough");
    await using host = await RecordingHost.start(() => stop.abort(reason));
    await using client = aClient([host]);

    const act = client.resolve(`${host.host}/app:1`, { logins: [], signal: stop.signal });

    await assert.rejects(act, reason);
    await assert.rejects(
      client.resolve(`${host.host}/app:1`, { logins: [], signal: stop.signal }),
      reason,
    );
  });

  test("reads no manifest of more than 4 MiB", async () => {
    await using host = await RecordingHost.start(({ method }, response) => {
      response.writeHead(200).end(method === "HEAD" ? undefined : " ".repeat((4 << 20) + 1));
    });
    await using client = aClient([host]);

    const error = await refusal(client.resolve(`${host.host}/app:1`, anybody));

    assert.equal(error.code, "BAD_ANSWER");
    assert.equal(error.reason, "it sends more than 4194304 bytes");
  });
});

/** The part of a descriptor that says for which platform it is. */
function platform(os: string, architecture: string, variant?: string): object {
  return { platform: { os, architecture, ...(variant !== undefined && { variant }) } };
}

describe("RegistryClient.sizes()", () => {
  const amd64 = anImage({ os: "linux", architecture: "amd64" }, 10, 20);
  const arm64 = anImage({ os: "linux", architecture: "arm64", variant: "v8" }, 7);
  async function sizesOf(root: Content, others: Content[], isWanted?: (name: string) => boolean) {
    await using host = await RecordingHost.start(serving(root, ...others));
    await using client = aClient([host]);
    const options = { ...anybody, ...(isWanted && { isWanted }) };
    const sizes = await client.sizes(`${host.host}/app:1`, root.digest, options);
    return { sizes, paths: host.requests.map(({ path }) => path.replace("/v2/app/", "")) };
  }

  test("adds up configuration and layers of each platform of an index", async () => {
    const attestation = content(ociManifest, { schemaVersion: 2 });
    const index = content(ociIndex, {
      schemaVersion: 2,
      manifests: [
        { ...descriptor(amd64.manifest), ...platform("linux", "amd64") },
        { ...descriptor(arm64.manifest), ...platform("linux", "arm64", "v8") },
        { ...descriptor(attestation), ...platform("unknown", "unknown") },
        {
          ...descriptor(attestation),
          annotations: { "vnd.docker.reference.type": "attestation-manifest" },
        },
      ],
    });

    const { sizes, paths } = await sizesOf(index, [amd64.manifest, arm64.manifest]);

    assert.deepEqual(sizes, [
      { platform: "linux/amd64", sizeBytes: amd64.config.size + 30 },
      { platform: "linux/arm64/v8", sizeBytes: arm64.config.size + 7 },
    ]);
    assert.equal(paths.length, 3, "no configuration and no attestation is read");
  });

  test("reads no manifest of a platform that is not wanted", async () => {
    const index = content(ociIndex, {
      manifests: [
        { ...descriptor(amd64.manifest), ...platform("linux", "amd64") },
        { ...descriptor(arm64.manifest), ...platform("linux", "arm64", "v8") },
      ],
    });

    const { sizes, paths } = await sizesOf(
      index,
      [amd64.manifest, arm64.manifest],
      (name) => name === "linux/arm64/v8",
    );

    assert.deepEqual(sizes, [{ platform: "linux/arm64/v8", sizeBytes: arm64.config.size + 7 }]);
    assert.equal(paths.length, 2);
  });

  test("reads a single image's platform from its configuration", async () => {
    const { sizes, paths } = await sizesOf(arm64.manifest, [arm64.config]);

    assert.deepEqual(sizes, [{ platform: "linux/arm64/v8", sizeBytes: arm64.config.size + 7 }]);
    assert.deepEqual(paths, [`manifests/${arm64.manifest.digest}`, `blobs/${arm64.config.digest}`]);
  });

  test("leaves out what an index names and the registry does not have", async () => {
    const index = content(ociIndex, {
      manifests: [
        { ...descriptor(amd64.manifest), ...platform("linux", "amd64") },
        { ...descriptor(arm64.manifest), ...platform("linux", "arm64", "v8") },
      ],
    });

    const { sizes } = await sizesOf(index, [amd64.manifest]);

    assert.deepEqual(
      sizes.map(({ platform }) => platform),
      ["linux/amd64"],
    );
  });

  test("looks no deeper than one index", async () => {
    const inner = content(ociIndex, { manifests: [] });
    const index = content(ociIndex, { manifests: [descriptor(inner)] });

    const { sizes, paths } = await sizesOf(index, [inner]);

    assert.deepEqual(sizes, []);
    assert.equal(paths.length, 1);
  });

  test("is empty for an artifact", async () => {
    const chart = content("application/vnd.cncf.helm.config.v1+json", {});
    const artifact = content(ociManifest, { config: descriptor(chart), layers: [] });

    const { sizes, paths } = await sizesOf(artifact, [chart]);

    assert.deepEqual(sizes, []);
    assert.equal(paths.length, 1);
  });

  const forged = (digest: string, size: number) =>
    content(ociIndex, {
      manifests: [{ mediaType: ociManifest, digest, size, ...platform("linux", "amd64") }],
    });
  const lies: Record<string, [root: Content, others: Content[], reason: RegExp]> = {
    "a manifest that is something else than its digest says": [
      forged(digest, amd64.manifest.size),
      [{ ...amd64.manifest, digest }],
      /something else than its digest/,
    ],
    "a manifest that is larger than its descriptor says": [
      forged(amd64.manifest.digest, amd64.manifest.size - 1),
      [amd64.manifest],
      /more than \d+ bytes/,
    ],
    "a manifest that is smaller than its descriptor says": [
      forged(amd64.manifest.digest, amd64.manifest.size + 1),
      [amd64.manifest],
      /another size/,
    ],
    "a manifest of 5 MiB": [forged(digest, 5 << 20), [], /too long/],
    "an index in place of an image": [
      forged(forged(digest, 1).digest, forged(digest, 1).size),
      [forged(digest, 1)],
      /an index for an image/,
    ],
    "more than 64 manifests": [
      content(ociIndex, {
        manifests: Array.from({ length: 65 }, () => descriptor(amd64.manifest)),
      }),
      [],
      /more than 64/,
    ],
    "both an index and an image": [
      content(ociIndex, { manifests: [], layers: [], config: descriptor(amd64.config) }),
      [],
      /both/,
    ],
    "a list": [content(ociIndex, []), [], /no JSON object/],
    "no layers": [content(ociManifest, { config: descriptor(amd64.config) }), [], /neither/],
    "a child without a digest": [
      content(ociIndex, { manifests: [{ mediaType: ociManifest, size: 1 }] }),
      [],
      /without type, digest or size/,
    ],
    "a layer of a negative size": [
      content(ociManifest, {
        config: descriptor(amd64.config),
        layers: [{ mediaType: ociLayer, digest, size: -1 }],
      }),
      [],
      /without type, digest or size/,
    ],
    "layers past counting": [
      content(ociManifest, {
        config: descriptor(amd64.config),
        layers: [1, 2].map(() => ({ mediaType: ociLayer, digest, size: Number.MAX_SAFE_INTEGER })),
      }),
      [],
      /without type, digest or size/,
    ],
  };
  for (const [fact, [root, others, reason]] of Object.entries(lies)) {
    test(`refuses ${fact}`, async () => {
      const error = await refusal(sizesOf(root, others));

      assert.equal(error.code, "BAD_ANSWER");
      assert.match(error.reason, reason);
    });
  }
});

/** Gives the tags 1 to `last`, two at a time, with a link to what is next as a test writes it. */
function paging(last: number, link: (next: number) => string): Respond {
  return ({ path }, response) => {
    const first = Number(new URL(path, "http://a").searchParams.get("first") ?? 1);
    const tags = [first, first + 1].filter((tag) => tag <= last).map(String);
    const next = first + 2;
    const headers: Record<string, string> = next <= last ? { link: link(next) } : {};
    respondJson(response, 200, { name: "app", tags }, headers);
  };
}

describe("RegistryClient.tags()", () => {
  test("follows relative links", async () => {
    const respond = paging(5, (next) => `</v2/app/tags/list?n=2&first=${next}>; rel="next"`);
    await using host = await RecordingHost.start(respond);
    await using client = aClient([host]);

    const tags = await client.tags(`${host.host}/app`, { ...anybody, maxTags: 100 });

    assert.deepEqual(tags, ["1", "2", "3", "4", "5"]);
    assert.equal(host.requests.length, 3);
  });

  test("follows absolute links to the same host", async () => {
    await using host = await RecordingHost.start(() => {});
    host.respond = paging(3, (next) => `<${host.origin}/v2/app/tags/list?first=${next}>; rel=next`);
    await using client = aClient([host]);

    const tags = await client.tags(`${host.host}/app`, { ...anybody, maxTags: 100 });

    assert.deepEqual(tags, ["1", "2", "3"]);
  });

  test("follows no link to another host, and shows it no login", async () => {
    await using other = await RecordingHost.start(paging(2, () => ""));
    await using host = await RecordingHost.start(
      paging(4, () => `<${other.origin}/v2/app/tags/list>; rel="next"`),
    );
    await using client = aClient([host, other]);

    const error = await refusal(client.tags(`${host.host}/app`, { ...anybody, maxTags: 100 }));

    assert.equal(error.code, "NOT_ALLOWED");
    assert.deepEqual(other.requests, []);
  });

  test("ends where links lead in a circle", async () => {
    await using host = await RecordingHost.start(
      paging(9, () => `</v2/app/tags/list?first=3>; rel="next"`),
    );
    await using client = aClient([host]);

    const tags = await client.tags(`${host.host}/app`, { ...anybody, maxTags: 100 });

    assert.deepEqual(tags, ["1", "2", "3", "4"]);
  });

  test("ends where links never do", async () => {
    await using host = await RecordingHost.start(({ path }, response) => {
      const next = Number(path.split("=")[1]) + 1;
      respondJson(
        response,
        200,
        { tags: ["1"] },
        { link: `</v2/app/tags/list?x=${next}>; rel=next` },
      );
    });
    await using client = aClient([host]);

    const error = await refusal(client.tags(`${host.host}/app`, { ...anybody, maxTags: 100 }));

    assert.equal(error.code, "BAD_ANSWER");
    assert.equal(host.requests.length, 500);
  });

  test("reads no more than it is to", async () => {
    const respond = paging(50, (next) => `</v2/app/tags/list?first=${next}>; rel="next"`);
    await using host = await RecordingHost.start(respond);
    await using client = aClient([host]);

    const tags = await client.tags(`${host.host}/app`, { ...anybody, maxTags: 3 });

    assert.deepEqual(tags, ["1", "2", "3"]);
    assert.equal(host.requests.length, 2);
  });

  test("knows a repository without tags, and leaves out what is no tag", async () => {
    const pages = [{ tags: null }, { name: "app" }, { tags: ["../a", 7, "ok", "ok", "-x"] }];
    await using host = await RecordingHost.start((_, response) =>
      respondJson(response, 200, pages.shift()),
    );
    await using client = aClient([host]);
    const list = () => client.tags(`${host.host}/app`, { ...anybody, maxTags: 100 });

    assert.deepEqual([await list(), await list(), await list()], [[], [], ["ok"]]);
  });

  test("refuses what is no list of tags", async () => {
    await using host = await RecordingHost.start((_, response) =>
      respondJson(response, 200, { tags: "1" }),
    );
    await using client = aClient([host]);

    const error = await refusal(client.tags(`${host.host}/app`, { ...anybody, maxTags: 100 }));

    assert.equal(error.code, "BAD_ANSWER");
  });
});
