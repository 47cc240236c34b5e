import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { silentLog } from "#telemetry/log.ts";
import { aCertificate } from "#test/certificates.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { RecordingHost, respondJson, type Respond } from "#test/recording-host.ts";
import type { Login } from "./keyring.ts";
import { networkPolicy } from "./network-policy.ts";
import { RegistryClient, RegistryError, type RegistryClientOptions } from "./registry-client.ts";

const { signal } = new AbortController();
const digest = `sha256:${"a".repeat(64)}`;
const manifestHeaders = {
  "content-type": "application/vnd.oci.image.index.v1+json",
  "docker-content-digest": digest,
};

const anna = { username: "anna", password: "anemone" };
const ben = { username: "ben", password: "barnacle" };
const basic = ({ username, password }: typeof anna): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;

const loopback = networkPolicy({ deniedNetworks: [], allowedNetworks: ["127.0.0.0/8", "::1/128"] });
const { ca, ...tls } = aCertificate("localhost");

function aClient(plain: readonly RecordingHost[], options: Partial<RegistryClientOptions> = {}) {
  return new RegistryClient({
    userAgent: "coral/test",
    log: silentLog,
    clock: new ManualClock(),
    network: loopback,
    plainHttp: plain.map(({ host }) => host),
    timeoutMs: 20_000,
    ca,
    ...options,
  });
}

/** Gives a manifest to whom it knows, and asks all others for something. */
function guarded(isKnown: (authorization: string) => boolean, challenge: () => string): Respond {
  return ({ authorization }, response) => {
    if (authorization !== undefined && isKnown(authorization)) {
      response.writeHead(200, manifestHeaders).end();
    } else respondJson(response, 401, {}, { "www-authenticate": challenge() });
  };
}

async function resolve(client: RegistryClient, host: RecordingHost, logins: readonly Login[]) {
  return client.resolve(`${host.host}/team/app:1`, { logins, signal });
}

async function refusal(act: Promise<unknown>): Promise<RegistryError> {
  const error = await act.then(
    () => assert.fail("nothing was refused"),
    (error: unknown) => error,
  );
  if (!(error instanceof RegistryError)) throw error;
  return error;
}

const asking = () => 'Basic realm="sandbox"';

describe("RegistryClient at a registry with Basic", () => {
  test("shows a login when it is asked for one, and from then on at once", async () => {
    await using host = await RecordingHost.start(guarded((text) => text === basic(anna), asking));
    await using client = aClient([host]);

    await resolve(client, host, [anna]);
    await resolve(client, host, [{ ...anna }]);

    assert.deepEqual(
      host.requests.map(({ authorization }) => authorization),
      [undefined, basic(anna), basic(anna)],
    );
  });

  test("shows a login over HTTPS, to a registry that is trusted", async () => {
    await using host = await RecordingHost.start(
      guarded((text) => text === basic(anna), asking),
      tls,
    );
    await using client = aClient([]);

    assert.equal((await resolve(client, host, [anna])).digest, digest);
  });

  test("shows nothing to a registry that is not trusted", async () => {
    const stranger = aCertificate("localhost");
    await using host = await RecordingHost.start(
      guarded(() => true, asking),
      stranger,
    );
    await using client = aClient([]);

    const error = await refusal(resolve(client, host, [anna]));

    assert.equal(error.code, "UNREACHABLE");
    assert.match(error.reason, /^the connection failed \([A-Z_]+\)$/);
    assert.deepEqual(host.requests, []);
  });

  test("speaks plain HTTP with no registry that was not named", async () => {
    await using host = await RecordingHost.start(guarded(() => true, asking));
    await using client = aClient([]);

    assert.equal((await refusal(resolve(client, host, [anna]))).code, "UNREACHABLE");
    assert.deepEqual(host.requests, []);
  });

  test("tries logins in order, and goes on with the one that served", async () => {
    await using host = await RecordingHost.start(guarded((text) => text === basic(ben), asking));
    await using client = aClient([host]);
    const identity = { identityToken: "for-ever" };

    await resolve(client, host, [anna, identity, ben]);

    assert.deepEqual(host.authorizations, [basic(anna), basic(ben)]);
  });

  test("takes the next login after 403, and after nothing else", async () => {
    const statuses: Record<string, number> = { [basic(anna)]: 403, [basic(ben)]: 404 };
    await using host = await RecordingHost.start(({ authorization = "" }, response) => {
      const status = statuses[authorization] ?? 401;
      response.writeHead(status, { "www-authenticate": asking() }).end();
    });
    await using client = aClient([host]);

    const error = await refusal(
      resolve(client, host, [anna, ben, { username: "carl", password: "clam" }]),
    );

    assert.equal(error.code, "NOT_FOUND");
    assert.deepEqual(host.authorizations, [basic(anna), basic(ben)]);
  });

  test("is denied with a wrong password, and does not go without instead", async () => {
    await using host = await RecordingHost.start(guarded((text) => text === basic(ben), asking));
    await using client = aClient([host]);

    const error = await refusal(resolve(client, host, [anna]));

    assert.equal(error.code, "DENIED");
    assert.equal(host.requests.length, 2);
    assert.doesNotMatch(JSON.stringify(error) + String(error), /anna|anemone/);
  });

  test("is denied without a login", async () => {
    await using host = await RecordingHost.start(guarded(() => true, asking));
    await using client = aClient([host]);

    assert.equal((await refusal(resolve(client, host, []))).code, "DENIED");
    assert.deepEqual(host.authorizations, []);
  });
});

interface World extends AsyncDisposable {
  readonly host: RecordingHost;
  readonly realm: RecordingHost;
  /** The tokens that the registry takes. */
  readonly tokens: Set<string>;
}

/** The realm gives `anybody-1`, or `anna-1` for Anna, then `anna-2` and so on. */
async function aWorld(options: { isSecure?: boolean; expiresIn?: number } = {}): Promise<World> {
  const { isSecure = false, expiresIn = 300 } = options;
  const tokens = new Set<string>();
  const give: Respond = ({ authorization, body }, response) => {
    const isAnna =
      authorization === basic(anna) ||
      new URLSearchParams(body).get("refresh_token") === "anna-for-ever";
    if (!isAnna && (authorization !== undefined || body !== "")) {
      respondJson(response, body === "" ? 401 : 400, { error: "invalid_grant" });
      return;
    }
    const token = `${isAnna ? "anna" : "anybody"}-${tokens.size + 1}`;
    tokens.add(`Bearer ${token}`);
    respondJson(response, 200, {
      [body === "" ? "token" : "access_token"]: token,
      expires_in: expiresIn,
    });
  };
  const realm = await RecordingHost.start(give, isSecure ? tls : undefined);
  const host = await RecordingHost.start(
    guarded(
      (text) => tokens.has(text),
      () =>
        `Basic realm="x", Bearer realm="${realm.origin}/token?a=b",service="reg",scope="repository:team/app:pull"`,
    ),
  );
  return {
    host,
    realm,
    tokens,
    async [Symbol.asyncDispose]() {
      await host[Symbol.asyncDispose]();
      await realm[Symbol.asyncDispose]();
    },
  };
}

describe("RegistryClient at a registry with a token realm", () => {
  test("shows the password to the realm alone, and the token to the registry alone", async () => {
    await using world = await aWorld({ isSecure: true });
    await using client = aClient([world.host]);

    await resolve(client, world.host, [anna]);

    assert.deepEqual(world.realm.authorizations, [basic(anna)]);
    assert.deepEqual(world.host.authorizations, ["Bearer anna-1"]);
    const [asked] = world.realm.requests;
    const query = new URL(asked?.path ?? "", "http://a").searchParams;
    assert.equal(asked?.method, "GET");
    assert.deepEqual(Object.fromEntries(query), {
      a: "b",
      service: "reg",
      scope: "repository:team/app:pull",
    });
  });

  test("gets a token without a login", async () => {
    await using world = await aWorld();
    await using client = aClient([world.host, world.realm]);

    await resolve(client, world.host, []);

    assert.deepEqual(world.realm.authorizations, []);
    assert.deepEqual(world.host.authorizations, ["Bearer anybody-1"]);
  });

  test("exchanges an identity token by OAuth 2", async () => {
    await using world = await aWorld();
    await using client = aClient([world.host, world.realm]);

    await resolve(client, world.host, [{ identityToken: "anna-for-ever" }]);

    const [asked] = world.realm.requests;
    assert.equal(asked?.method, "POST");
    assert.equal(asked.authorization, undefined);
    assert.deepEqual(Object.fromEntries(new URLSearchParams(asked.body)), {
      grant_type: "refresh_token",
      client_id: "coral",
      service: "reg",
      scope: "repository:team/app:pull",
      refresh_token: "anna-for-ever",
    });
    assert.deepEqual(world.host.authorizations, ["Bearer anna-1"]);
  });

  test("is denied where the realm refuses the login", async () => {
    for (const login of [ben, { identityToken: "ben-for-ever" }]) {
      await using world = await aWorld();
      await using client = aClient([world.host, world.realm]);

      const error = await refusal(resolve(client, world.host, [login]));

      assert.equal(error.code, "DENIED");
      assert.match(error.reason, /^its token realm answers with status 40[01]$/);
      assert.deepEqual(world.host.authorizations, []);
    }
  });

  test("uses a token until shortly before its end", async () => {
    await using world = await aWorld({ expiresIn: 100 });
    const clock = new ManualClock();
    await using client = aClient([world.host, world.realm], { clock });
    const asked: number[] = [];
    for (const ms of [0, 89_000, 2_000]) {
      await clock.advance(ms);
      await resolve(client, world.host, [anna]);
      asked.push(world.realm.requests.length);
    }

    assert.deepEqual(asked, [1, 1, 2]);
  });

  test("keeps the tokens of logins and repositories apart", async () => {
    await using world = await aWorld();
    await using client = aClient([world.host, world.realm]);

    await resolve(client, world.host, [anna]);
    await resolve(client, world.host, []);
    await client.resolve(`${world.host.host}/team/other:1`, { logins: [anna], signal });

    assert.equal(world.realm.requests.length, 3);
  });

  test("gets another token when the registry no longer takes one", async () => {
    await using world = await aWorld();
    await using client = aClient([world.host, world.realm]);
    await resolve(client, world.host, [anna]);
    world.tokens.delete("Bearer anna-1");
    world.tokens.add("Bearer something else");

    await resolve(client, world.host, [anna]);

    assert.equal(world.realm.requests.length, 2);
  });

  const realms: Record<string, [realm: (realm: RecordingHost) => string, code: string]> = {
    "speaks plain HTTP and was not named": [({ origin }) => `${origin}/token`, "NOT_ALLOWED"],
    "is no address": [() => "token", "BAD_ANSWER"],
    "is a file": [() => "file:///etc/passwd", "BAD_ANSWER"],
    "has a login in its address": [({ host }) => `http://a:b@${host}/token`, "BAD_ANSWER"],
  };
  for (const [fact, [address, code]] of Object.entries(realms)) {
    test(`shows nothing to a realm that ${fact}`, async () => {
      await using realm = await RecordingHost.start((_, response) => response.end());
      const challenge = `Bearer realm="${address(realm)}"`;
      await using host = await RecordingHost.start(
        guarded(
          () => false,
          () => challenge,
        ),
      );
      await using client = aClient([host]);

      for (const logins of [[anna], [{ identityToken: "for-ever" }], []]) {
        assert.equal((await refusal(resolve(client, host, logins))).code, code);
      }
      assert.deepEqual(realm.requests, []);
      assert.deepEqual(host.authorizations, []);
    });
  }

  const answers: Record<string, [status: number, body: unknown, code: string, reason: RegExp]> = {
    "is busy": [429, {}, "THROTTLED", /its token realm answers with status 429/],
    "is broken": [502, {}, "UNREACHABLE", /its token realm/],
    "is not there": [404, {}, "BAD_ANSWER", /its token realm/],
    "gives no token": [200, {}, "BAD_ANSWER", /gives no token/],
    "gives a token that no header can hold": [200, { token: "a\r\nb" }, "BAD_ANSWER", /no token/],
    "gives a token of 100 kB": [200, { token: "a".repeat(100_000) }, "BAD_ANSWER", /more than/],
    "gives a token that is no text": [
      200,
      { token: 1, access_token: {} },
      "BAD_ANSWER",
      /no token/,
    ],
  };
  for (const [fact, [status, body, code, reason]] of Object.entries(answers)) {
    test(`tells when a realm ${fact}`, async () => {
      await using realm = await RecordingHost.start((_, response) =>
        respondJson(response, status, body),
      );
      const challenge = `Bearer realm="${realm.origin}"`;
      await using host = await RecordingHost.start(
        guarded(
          () => false,
          () => challenge,
        ),
      );
      await using client = aClient([host, realm]);

      const error = await refusal(resolve(client, host, [anna]));

      assert.equal(error.code, code);
      assert.match(error.reason, reason);
    });
  }

  test("carries an identity token to nowhere that the realm redirects to", async () => {
    await using other = await RecordingHost.start((_, response) => response.end());
    await using realm = await RecordingHost.start((_, response) => {
      response.writeHead(307, { location: other.origin }).end();
    });
    const challenge = `Bearer realm="${realm.origin}"`;
    await using host = await RecordingHost.start(
      guarded(
        () => false,
        () => challenge,
      ),
    );
    await using client = aClient([host, realm, other]);

    const error = await refusal(resolve(client, host, [{ identityToken: "for-ever" }]));

    assert.equal(error.code, "BAD_ANSWER");
    assert.deepEqual(other.requests, []);
  });
});

/** Sends everybody who is known elsewhere. */
async function redirecting(to: string, status = 307, certificate?: typeof tls) {
  return RecordingHost.start(({ authorization, path }, response) => {
    if (authorization !== basic(anna)) {
      respondJson(response, 401, {}, { "www-authenticate": "Basic" });
    } else if (path === "/there") response.writeHead(200, manifestHeaders).end();
    else response.writeHead(status, { location: to }).end();
  }, certificate);
}

describe("RegistryClient where it is redirected", () => {
  test("shows the login again to the same host", async () => {
    await using host = await redirecting("/there");
    await using client = aClient([host]);

    assert.equal((await resolve(client, host, [anna])).digest, digest);
    assert.equal(host.requests.at(-1)?.path, "/there");
  });

  for (const status of [301, 302, 303, 307, 308]) {
    test(`shows no login to another host that a status ${status} names`, async () => {
      await using other = await RecordingHost.start((_, response) => {
        response.writeHead(200, manifestHeaders).end();
      });
      await using host = await redirecting(`${other.origin}/there`, status);
      await using client = aClient([host, other]);

      assert.equal((await resolve(client, host, [anna])).digest, digest);
      assert.equal(other.requests.length, 1);
      assert.deepEqual(other.authorizations, []);
    });
  }

  test("shows no login to the first host after it came by another", async () => {
    let back = "";
    await using other = await RecordingHost.start((_, response) => {
      response.writeHead(307, { location: back }).end();
    });
    await using host = await redirecting(other.origin);
    back = `${host.origin}/there`;
    await using client = aClient([host, other]);

    // It asks for a login again, and gets the same once, with the same end.
    assert.equal((await refusal(resolve(client, host, [anna]))).code, "DENIED");
    const there = host.requests.filter(({ path }) => path === "/there");
    assert.deepEqual(
      there.map(({ authorization }) => authorization),
      there.map(() => undefined),
    );
  });

  test("answers no other host that asks for a login", async () => {
    await using realm = await RecordingHost.start((_, response) =>
      respondJson(response, 200, { token: "a" }),
    );
    for (const challenge of ["Basic", `Bearer realm="${realm.origin}"`]) {
      await using other = await RecordingHost.start(
        guarded(
          () => true,
          () => challenge,
        ),
      );
      await using host = await redirecting(other.origin);
      await using client = aClient([host, other, realm]);

      assert.equal((await refusal(resolve(client, host, [anna]))).code, "DENIED");
      assert.deepEqual(other.authorizations, []);
      assert.deepEqual(realm.requests, []);
    }
  });

  test("goes from HTTPS to no plain HTTP", async () => {
    await using other = await RecordingHost.start((_, response) => response.end());
    await using host = await redirecting(other.origin, 307, tls);
    await using client = aClient([other]);

    assert.equal((await refusal(resolve(client, host, [anna]))).code, "NOT_ALLOWED");
    assert.deepEqual(other.requests, []);
  });

  test("follows five times and no more", async () => {
    await using host = await RecordingHost.start(({ path }, response) => {
      const count = Number(/^\/(\d+)$/.exec(path)?.[1] ?? 0);
      response.writeHead(302, { location: `/${count + 1}` }).end();
    });
    await using client = aClient([host]);

    assert.equal((await refusal(resolve(client, host, []))).code, "BAD_ANSWER");
    assert.equal(host.requests.at(-1)?.path, "/5");
  });

  for (const location of ["", "ftp://a.test/", "http://", "http://a:b@127.0.0.1/"]) {
    test(`goes nowhere with "Location: ${location}"`, async () => {
      await using host = await RecordingHost.start((_, response) => {
        response.writeHead(302, location === "" ? {} : { location }).end();
      });
      await using client = aClient([host]);

      const error = await refusal(resolve(client, host, []));

      assert.equal(error.code, "BAD_ANSWER");
      assert.doesNotMatch(error.message, /a:b/);
    });
  }
});

describe("RegistryClient where the network is out of bounds", () => {
  const network = networkPolicy({ deniedNetworks: [] });

  for (const name of ["127.0.0.1", "localhost", "[::1]", "[::ffff:7f00:1]"]) {
    test(`connects to no registry at ${name}`, async () => {
      await using host = await RecordingHost.start((_, response) => response.end());
      const registry = `${name}:${host.port}`;
      await using client = aClient([], { network, plainHttp: [registry] });

      const error = await refusal(client.resolve(`${registry}/app`, { logins: [anna], signal }));

      assert.equal(error.code, "NOT_ALLOWED");
      assert.equal(error.retryable, false);
      assert.doesNotMatch(error.reason, /127/);
      assert.deepEqual(host.requests, []);
    });
  }

  test("is led there by no redirect and no realm", async () => {
    await using inner = await RecordingHost.start((_, response) => response.end(), tls);
    const replies: Respond[] = [
      (_, response) => response.writeHead(302, { location: inner.origin }).end(),
      (_, response) =>
        respondJson(response, 401, {}, { "www-authenticate": `Bearer realm="${inner.origin}"` }),
    ];
    for (const reply of replies) {
      await using host = await RecordingHost.start(reply);
      // The registry is written as an address, and what it leads to as a name: only names are looked up.
      let isFirst = true;
      const network = {
        allows(): boolean {
          const was = isFirst;
          isFirst = false;
          return was;
        },
      };
      await using client = aClient([host], { network });

      assert.equal((await refusal(resolve(client, host, [anna]))).code, "NOT_ALLOWED");
      assert.equal(host.requests.length, 1);
      assert.deepEqual(inner.requests, []);
    }
  });
});
