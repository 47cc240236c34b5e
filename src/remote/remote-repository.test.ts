import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";

import type { ManifestContent } from "#oci/content.ts";
import { silentLog } from "#telemetry/log.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { RecordingHost, respondJson, type Respond } from "#test/recording-host.ts";
import { Budgets } from "./budget.ts";
import { networkPolicy } from "./network-policy.ts";
import { RegistryClient, type RegistryClientOptions } from "./registry-client.ts";

const { signal } = new AbortController();
const ociIndex = "application/vnd.oci.image.index.v1+json";
const ociManifest = "application/vnd.oci.image.manifest.v1+json";
const schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";

const anna = { username: "anna", password: "anemone" };
const ben = { username: "ben", password: "barnacle" };
const basic = ({ username, password }: typeof anna): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;

function aClient(host: RecordingHost, options: Partial<RegistryClientOptions> = {}) {
  return new RegistryClient({
    userAgent: "coral/test",
    log: silentLog,
    clock: new ManualClock(),
    network: networkPolicy({ deniedNetworks: [], allowedNetworks: ["127.0.0.0/8", "::1/128"] }),
    plainHttp: [host.host],
    timeoutMs: 20_000,
    random: () => 0,
    ...options,
  });
}

/** A client of one host, and a repository there. */
async function setUp(respond: Respond, options: Partial<RegistryClientOptions> = {}) {
  const host = await RecordingHost.start(respond);
  const clock = new ManualClock();
  const client = aClient(host, { clock, ...options });
  return {
    host,
    clock,
    client,
    repository: client.repository(`${host.host}/team/app`, { logins: [], actions: "pull,push" }),
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await host[Symbol.asyncDispose]();
    },
  };
}

function log(host: RecordingHost): string[] {
  return host.requests.map(
    ({ method, path }) =>
      `${method} ${path.replace("/v2/team/app/", "").replace(/sha256:\w+/, "DIGEST")}`,
  );
}

function aManifest(value: object, mediaType = ociManifest): ManifestContent {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...value }));
  return { mediaType, digest: `sha256:${hash("sha256", bytes)}`, bytes };
}

const image = aManifest({ config: {}, layers: [] });

const gives =
  (manifest: ManifestContent, headers: Record<string, string> = {}): Respond =>
  (_, response) => {
    response.writeHead(200, { "content-type": manifest.mediaType, ...headers });
    response.end(manifest.bytes);
  };

const paged: Respond = ({ path }, response) => {
  const page = Number(/page=(\d+)/.exec(path)?.[1] ?? 0);
  const link = `</v2/team/app/tags/list?page=${page + 1}>; rel="next"`;
  respondJson(response, 200, { tags: [`a${page}`, `b${page}`] }, page < 3 ? { link } : {});
};

const index = (...manifests: unknown[]): ManifestContent => aManifest({ manifests }, ociIndex);

describe("RemoteRepository.manifest()", () => {
  test("refuses bytes that are not those of a digest, and names it", async () => {
    await using world = await setUp(gives(aManifest({ layers: ["other"] })));
    const { repository } = world;

    await assert.rejects(repository.manifest(image.digest, { signal }), {
      name: "WrongContentError",
      digest: image.digest,
    });
  });

  test("refuses bytes that are not those of the digest that goes with a tag", async () => {
    await using world = await setUp(
      gives(image, { "docker-content-digest": `sha256:${"a".repeat(64)}` }),
    );

    await assert.rejects(world.repository.manifest("1", { signal }), { code: "WRONG_CONTENT" });
  });

  test("believes what a manifest says of itself before what its registry says", async () => {
    await using world = await setUp(gives(image, { "content-type": ociIndex }));

    assert.deepEqual(await world.repository.manifest("1", { signal }), image);
  });

  test("takes what says nothing of itself for what it looks like", async () => {
    const types: [value: object, mediaType: string][] = [
      [{ manifests: [] }, ociIndex],
      [{ layers: [] }, ociManifest],
      [{ schemaVersion: 1, fsLayers: [] }, "application/vnd.docker.distribution.manifest.v1+json"],
    ];
    for (const [value, mediaType] of types) {
      await using world = await setUp((_, response) => {
        response.writeHead(200, { "content-type": "text/plain" }).end(JSON.stringify(value));
      });

      const found = await world.repository.manifest("1", { signal });

      assert.equal(found?.mediaType, mediaType);
    }
  });

  test("gives a manifest of schema 1 under the digest that its registry names", async () => {
    const old = aManifest({ schemaVersion: 1 }, schema1);
    const digest = `sha256:${"a".repeat(64)}`;
    await using world = await setUp(gives(old, { "docker-content-digest": digest }));

    assert.deepEqual(await world.repository.manifest(digest, { signal }), { ...old, digest });
    assert.deepEqual(await world.repository.find("1", { signal }), { digest, mediaType: schema1 });
  });

  test("refuses what is too large, and what is no manifest", async () => {
    for (const body of [Buffer.alloc((4 << 20) + 1, " "), "[]", "x"]) {
      await using world = await setUp((_, response) => void response.end(body));

      await assert.rejects(world.repository.manifest("1", { signal }), { code: "BAD_ANSWER" });
    }
  });
});

describe("RemoteRepository.tags()", () => {
  test("lists page by page, and asks for no page that is not wanted", async () => {
    await using world = await setUp(paged);
    const { host, repository } = world;
    const found: string[] = [];

    for await (const tag of repository.tags({ signal })) {
      found.push(tag);
      if (tag === "a1") break;
    }

    assert.deepEqual(found, ["a0", "b0", "a1"]);
    assert.equal(host.requests.length, 2);
    assert.equal((await Array.fromAsync(repository.tags({ signal }))).length, 8);
    assert.deepEqual(await Array.fromAsync(repository.tags({ signal, limit: 3 })), [
      "a0",
      "b0",
      "a1",
    ]);
  });

  test("refuses pages that lead in a circle, and to another host", async () => {
    const targets: Record<string, string> = {
      "/v2/team/app/tags/list?n=1000": "BAD_ANSWER",
      "http://a.test/v2/team/app/tags/list": "NOT_ALLOWED",
    };
    for (const [target, code] of Object.entries(targets)) {
      await using world = await setUp((_, response) => {
        respondJson(response, 200, { tags: ["a"] }, { link: `<${target}>; rel="next"` });
      });

      await assert.rejects(Array.fromAsync(world.repository.tags({ signal })), { code });
    }
  });
});

describe("RemoteRepository.referrers()", () => {
  const subject = image.digest;
  const [first, second] = ["a", "b"].map((letter) => ({
    mediaType: ociManifest,
    digest: `sha256:${letter.repeat(64)}`,
    size: 5,
    artifactType: "application/sbom",
  }));
  const found = [first, second].map((value) => {
    const { size, ...rest } = value ?? assert.fail();
    return { ...rest, sizeBytes: size };
  });

  test("asks the registry's API, page by page", async () => {
    await using world = await setUp(({ path }, response) => {
      const isFirst = !path.includes("page=2");
      const link = `</v2/team/app/referrers/${subject}?page=2>; rel="next"`;
      const { bytes } = index(isFirst ? first : second);
      response.writeHead(200, { "content-type": ociIndex, ...(isFirst && { link }) }).end(bytes);
    });

    assert.deepEqual(await world.repository.referrers(subject, { signal }), found);
    assert.equal(world.host.requests.length, 2);
  });

  const lacks: Record<string, Respond> = {
    "404": (_, response) => void response.writeHead(404).end("404 page not found"),
    "405": (_, response) => void response.writeHead(405).end(),
    "something that is no index": (_, response) => respondJson(response, 200, { tags: [] }),
  };
  for (const [fact, lack] of Object.entries(lacks)) {
    test(`reads the fallback tag of a registry that answers ${fact}, and asks it once`, async () => {
      const tag = `sha256-${subject.slice("sha256:".length)}`;
      await using world = await setUp((request, response) => {
        if (!request.path.endsWith(`/manifests/${tag}`)) lack(request, response);
        else gives(index(first, second, { mediaType: 1 }))(request, response);
      });
      const { host, repository, client } = world;

      assert.deepEqual(await repository.referrers(subject, { signal }), found);
      assert.deepEqual(await repository.referrers(subject, { signal }), found);
      const other = client.repository(`${host.host}/other`, { logins: [] });
      await other.referrers(subject, { signal });

      const asked = host.requests.filter(({ path }) => path.includes("/referrers/"));
      assert.equal(asked.length, 1);
    });
  }

  test("learns nothing of the API from a repository that is not there", async () => {
    await using world = await setUp((_, response) => {
      respondJson(response, 404, { errors: [{ code: "NAME_UNKNOWN", message: "none" }] });
    });
    const { host, repository } = world;

    for (let times = 0; times < 2; times++) {
      assert.deepEqual(await repository.referrers(subject, { signal }), []);
    }

    assert.equal(host.requests.filter(({ path }) => path.includes("/referrers/")).length, 2);
  });
});

describe("RemoteRepository.putManifest()", () => {
  const subject = { mediaType: ociManifest, digest: image.digest, size: image.bytes.length };
  const signature = aManifest({ subject, layers: [], artifactType: "application/signature" });
  const tag = `sha256-${image.digest.slice("sha256:".length)}`;

  test("leaves the list of referrers to a registry that keeps it", async () => {
    await using world = await setUp((_, response) => {
      response.writeHead(201, { "oci-subject": image.digest }).end();
    });

    await world.repository.putManifest("1", signature, { signal });

    assert.deepEqual(log(world.host), ["PUT manifests/1"]);
  });

  test("adds to the list that others have made, where the registry keeps none", async () => {
    const other = { mediaType: ociManifest, digest: `sha256:${"b".repeat(64)}`, size: 7, x: 1 };
    let kept = aManifest({ manifests: [other], annotations: { a: "b" } }, ociIndex).bytes;
    await using world = await setUp(({ method, path, body }, response) => {
      if (method === "PUT" && path.endsWith(tag)) kept = Buffer.from(body);
      response.writeHead(method === "PUT" ? 201 : 200, { "content-type": ociIndex });
      response.end(method === "PUT" ? undefined : kept);
    });
    const { host, repository } = world;

    await repository.putManifest(signature.digest, signature, { signal });
    await repository.putManifest(signature.digest, signature, { signal });

    const added = {
      mediaType: ociManifest,
      digest: signature.digest,
      size: signature.bytes.length,
      artifactType: "application/signature",
    };
    assert.deepEqual(JSON.parse(kept.toString()), {
      schemaVersion: 2,
      mediaType: ociIndex,
      manifests: [other, added],
      annotations: { a: "b" },
    });
    assert.equal(host.requests.filter(({ method }) => method === "PUT").length, 3);
  });

  test("adds again what somebody else's writing has dropped", async () => {
    let kept = aManifest({ manifests: [] }, ociIndex).bytes;
    let writes = 0;
    await using world = await setUp(({ method, path, body }, response) => {
      const isList = path.endsWith(tag);
      if (method === "PUT" && isList && ++writes > 1) kept = Buffer.from(body);
      response.writeHead(method === "PUT" ? 201 : 200, { "content-type": ociIndex });
      response.end(method === "PUT" ? undefined : kept);
    });

    await world.repository.putManifest(signature.digest, signature, { signal });

    assert.equal(writes, 2);
    assert.match(kept.toString(), new RegExp(signature.digest));
  });

  test("refuses a registry that stores something else", async () => {
    await using world = await setUp((_, response) => {
      response.writeHead(201, { "docker-content-digest": signature.digest }).end();
    });

    await assert.rejects(world.repository.putManifest("1", image, { signal }), {
      code: "BAD_ANSWER",
    });
  });
});

describe("RemoteRepository.mountBlob()", () => {
  const answers: [status: number, isMounted: boolean, log: string[]][] = [
    [201, true, ["POST"]],
    [202, false, ["POST", "DELETE"]],
    [403, false, ["POST"]],
    [404, false, ["POST"]],
    [405, false, ["POST"]],
  ];
  for (const [status, isMounted, methods] of answers) {
    test(`${isMounted ? "has" : "has not"} the blob after an answer of ${status}`, async () => {
      await using world = await setUp((_, response) => {
        response.writeHead(status, { location: "/v2/team/app/blobs/uploads/1" }).end();
      });
      const { host, repository } = world;

      const found = await repository.mountBlob(image.digest, `${host.host}/team/other`, { signal });

      assert.equal(found, isMounted);
      assert.deepEqual(
        host.requests.map(({ method }) => method),
        methods,
      );
      const { searchParams } = new URL(host.requests[0]?.path ?? "", host.origin);
      assert.deepEqual(Object.fromEntries(searchParams), {
        mount: image.digest,
        from: "team/other",
      });
    });
  }
});

describe("RemoteRepository at a registry that wants tokens", () => {
  /** Gives tokens that name what they are good for, and takes them for that alone. */
  const guarded =
    (needs: (method: string, path: string) => string): Respond =>
    ({ method, path, authorization }, response) => {
      const url = new URL(path, "http://host");
      if (url.pathname === "/token") {
        const token = Buffer.from(url.searchParams.getAll("scope").join(" ")).toString("base64url");
        respondJson(response, 200, { token, expires_in: 300 });
        return;
      }
      const token = authorization?.replace("Bearer ", "") ?? "";
      const scopes = Buffer.from(token, "base64url").toString().split(" ");
      if (
        needs(method, path)
          .split(" ")
          .every((need) => scopes.includes(need))
      ) {
        response.writeHead(method === "POST" ? 201 : 202, { "content-type": "" }).end();
        return;
      }
      const realm = `http://${host?.host}/token`;
      const challenge = `Bearer realm="${realm}",service="s",scope="repository:team/app:pull"`;
      respondJson(response, 401, {}, { "www-authenticate": challenge });
    };
  let host: RecordingHost | undefined;

  test("gets one token for reading and writing, and uses it for all", async () => {
    await using world = await setUp(guarded(() => "repository:team/app:pull,push"));
    ({ host } = world);
    const { repository } = world;

    await repository.hasBlob(image.digest, { signal });
    await repository.deleteManifest("1", { signal });

    const tokens = world.host.requests.filter(({ path }) => path.startsWith("/token"));
    assert.equal(tokens.length, 1);
    assert.equal(world.host.requests.length, 4);
  });

  test("gets one token for both repositories of a mount", async () => {
    const both = "repository:team/app:pull,push repository:team/other:pull";
    await using world = await setUp(guarded(() => both));
    ({ host } = world);

    const found = await world.repository.mountBlob(image.digest, "team/other", { signal });

    assert.equal(found, true);
    const token = world.host.requests.find(({ path }) => path.startsWith("/token"));
    const { searchParams } = new URL(token?.path ?? "", "http://host");
    assert.deepEqual(searchParams.getAll("scope"), both.split(" "));
  });
});

describe("RemoteRepository at a registry that does not answer well", () => {
  test("tries again what may be tried again, a few times, waiting longer each time", async () => {
    await using world = await setUp((_, response) => void response.writeHead(503).end());
    const { host, clock, repository } = world;
    const waits: number[] = [];

    const finding = repository.find("1", { signal });
    finding.catch(() => {});
    for (let times = 0; times < 4; times++) {
      while (clock.sleeping === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      let waitMs = 0;
      for (; clock.sleeping > 0; waitMs += 50) await clock.advance(50);
      waits.push(waitMs);
    }

    await assert.rejects(finding, { code: "UNREACHABLE" });
    assert.equal(host.requests.length, 5);
    assert.deepEqual(waits, [250, 500, 1_000, 2_000]);
  });

  test("tries nothing again that cannot help", async () => {
    for (const status of [400, 403, 404, 405]) {
      await using world = await setUp((_, response) => void response.writeHead(status).end());

      await world.repository.manifest("1", { signal }).catch(() => {});

      assert.equal(world.host.requests.length, 1, `${status}`);
    }
  });

  test("sends nothing while a registry asks to be left alone, and says so", async () => {
    let refusals = 1;
    await using world = await setUp((request, response) => {
      if (refusals-- > 0) response.writeHead(429, { "retry-after": "60" }).end();
      else gives(image)(request, response);
    });
    const { host, clock, client } = world;
    const told: (number | undefined)[] = [];
    const name = `${host.host}/team/app`;
    const repository = client.repository(name, { logins: [], onThrottled: (ms) => told.push(ms) });
    const start = clock.now().getTime();

    const reading = repository.manifest("1", { signal });
    while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const other = client.repository(`${host.host}/other`, { logins: [] }).manifest("1", { signal });
    await clock.advance(59_999);
    assert.equal(host.requests.length, 1);
    await clock.advance(1);

    assert.deepEqual(await reading, image);
    assert.deepEqual(await other, image);
    assert.deepEqual(told, [start + 60_000, undefined]);
  });

  test("keeps budgets by login, and shares them with other clients", async () => {
    await using world = await setUp(({ authorization, ...request }, response) => {
      if (authorization === undefined) {
        response.writeHead(401, { "www-authenticate": 'Basic realm="a"' }).end();
      } else if (authorization === basic(anna)) {
        response.writeHead(429, { "retry-after": "60" }).end();
      } else gives(image)({ ...request, authorization }, response);
    });
    const { host, clock } = world;
    const budgets = new Budgets({ clock });
    await using first = aClient(host, { clock, budgets });
    await using second = aClient(host, { clock, budgets });
    const stop = new AbortController();
    const read = (client: RegistryClient, login: typeof anna) =>
      client
        .repository(`${host.host}/team/app`, { logins: [login] })
        .manifest("1", { signal: stop.signal });

    const waiting = [first, second].map((client) => read(client, anna));
    for (const one of waiting) one.catch(() => {});
    while (budgets.throttled.size === 0) await new Promise((resolve) => setTimeout(resolve, 5));

    assert.deepEqual(await read(second, ben), image);
    assert.deepEqual([...budgets.throttled.keys()], [host.host]);
    stop.abort(new Error("enough"));
    for (const one of waiting) await assert.rejects(one, /^Error: enough$/);
  });

  test("waits as the token realm asks", async () => {
    let refusals = 1;
    let realm = "";
    await using world = await setUp(({ path, authorization, ...request }, response) => {
      if (path.startsWith("/token")) {
        if (refusals-- > 0) response.writeHead(429, { "retry-after": "30" }).end();
        else respondJson(response, 200, { token: "t" });
      } else if (authorization === "Bearer t") {
        gives(image)({ path, authorization, ...request }, response);
      } else {
        respondJson(response, 401, {}, { "www-authenticate": `Bearer realm="${realm}"` });
      }
    });
    const { host, clock, repository } = world;
    realm = `http://${host.host}/token`;

    const reading = repository.manifest("1", { signal });
    while (clock.sleeping === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await clock.advance(29_999);
    assert.equal(host.requests.length, 2);
    await clock.advance(1);

    assert.deepEqual(await reading, image);
  });

  test("gives up with a registry that never stops refusing", async () => {
    await using world = await setUp((_, response) => {
      response.writeHead(429, { "retry-after": "0" }).end();
    });

    await assert.rejects(world.repository.find("1", { signal }), {
      code: "THROTTLED",
      retryable: true,
    });

    assert.equal(world.host.requests.length, 10);
  });
});
