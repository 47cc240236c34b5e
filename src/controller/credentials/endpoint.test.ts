import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Image, ImageSpec } from "#api/v1/image.ts";
import { planObject, planOf } from "#controller/image/plan.ts";
import type { PostEntry, PostRequest, Reply } from "#http/router.ts";
import type { Lister } from "#kube/lister.ts";
import type { KubeObject, Node } from "#kube/types.ts";
import type { KeyringEntry } from "#remote/keyring.ts";
import type { LoginProviders } from "#secrets/repository-logins.ts";
import { jsonLog } from "#telemetry/log.ts";
import { noProviders } from "#test/credential-providers.ts";
import { anImage } from "#test/kinds.ts";
import { credentialsRoutes } from "./endpoint.ts";
import type { Caller } from "./token-review.ts";

const app = "one.test/a/app:1";

/** The objects of a test, as an informer would have them. */
function listerOf<T extends KubeObject>(objects: readonly T[]): Lister<T> {
  const keyOf = ({ metadata: { namespace, name } }: T): string =>
    namespace === undefined ? name : `${namespace}/${name}`;
  return {
    get: (key) => objects.find((object) => keyOf(object) === key),
    list: () => [...objects],
  };
}

function wants(namespace: string, secret: string, spec: Partial<ImageSpec> = {}): Image {
  const repositories = [{ name: "one.test/a/app", tags: ["1"], listSelection: "listed" }] as const;
  const imagePullSecrets = [{ name: secret }];
  return anImage({ repositories, imagePullSecrets, ...spec }, { namespace });
}

function planFor(image: Image): ImagePlan {
  return planObject(image, planOf(image, { pullSecretsRevision: "1" }).spec);
}

interface World {
  images?: readonly Image[];
  plans?: readonly ImagePlan[];
  caller?: Caller;
  /** Whether the Secrets of a namespace were read. */
  isRead?: (namespace: string) => boolean;
  hasSynced?: boolean;
  providers?: LoginProviders;
}

const fromCloud = { username: "cloud", password: "secret-cloud" };

/** A provider for `one.test`, and what it was asked for. @param delayMs - how long it takes for the path `slow`. */
function aCloud(delayMs = 0): LoginProviders & { asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    revision: "1",
    isFor: ({ registry }) => registry === "one.test",
    loginsFor: async ({ path }, { signal }) => {
      asked.push(path);
      if (path === "slow") await sleep(delayMs, undefined, { signal });
      return [fromCloud];
    },
  };
}

const entries: Record<string, readonly KeyringEntry[]> = {
  "team/pull": [
    { registry: "one.test", path: "", login: { username: "anna", password: "secret-reef" } },
    { registry: "two.test", path: "", login: { username: "anna", password: "secret-two" } },
  ],
  "others/pull": [{ registry: "one.test", path: "a", login: { identityToken: "secret-token" } }],
};

function world({
  images = [wants("team", "pull")],
  plans = images.map(planFor),
  caller = { node: "node1" },
  isRead = () => true,
  hasSynced = true,
  providers = noProviders,
}: World = {}): { post: (body: unknown) => Promise<Reply>; lines: string[] } {
  const lines: string[] = [];
  const nodes: Node[] = [
    { metadata: { name: "node1", labels: { zone: "a" } } },
    { metadata: { name: "node2", labels: { zone: "b" } } },
  ];
  const routes = credentialsRoutes({
    reviewer: { identify: async () => caller },
    images: listerOf(images),
    plans: listerOf(plans),
    nodes: listerOf(nodes),
    secrets: {
      entriesFor: (namespace, names) =>
        names.flatMap((name) => entries[`${namespace}/${name}`] ?? []),
      revisionOf: (namespace) => (isRead(namespace) ? "1" : undefined),
    },
    providers,
    providersMs: 100,
    hasSynced: () => hasSynced,
    log: jsonLog({ level: "debug", write: (line) => lines.push(line) }),
  });
  const entry = routes["/v1/credentials"];
  assert.ok(typeof entry === "object");
  const { signal } = new AbortController();
  return { post: async (body) => answerOf(entry, { body, headers: {}, signal }), lines };
}

async function answerOf(entry: PostEntry, request: PostRequest): Promise<Reply> {
  assert.ok("admit" in entry);
  const { headers } = request;
  const route = await entry.admit({ headers, remoteAddress: "10.0.0.1" });
  return typeof route === "function" ? route(request) : route;
}

async function loginsOf(options: World, references = [app]): Promise<unknown> {
  const { status = 200, body } = await world(options).post({ references });
  assert.equal(status, 200, body);
  const answer: unknown = JSON.parse(body);
  assert.ok(typeof answer === "object" && answer !== null && "logins" in answer);
  return answer.logins;
}

const anna = {
  reference: app,
  registry: "one.test",
  login: { username: "anna", password: "secret-reef" },
};

describe("POST /v1/credentials", () => {
  test("answers with the logins for what is asked for on the node", async () => {
    assert.deepEqual(await loginsOf({}), [anna]);
  });

  test("answers with the logins of each namespace that asks, in turns", async () => {
    const images = [wants("team", "pull"), wants("others", "pull")];
    assert.deepEqual(await loginsOf({ images }), [
      anna,
      { ...anna, login: { identityToken: "secret-token" } },
    ]);
  });

  const zoneB = [{ key: "zone", operator: "In", values: ["b"] }] as const;
  const image = wants("team", "pull");
  const without: Record<string, [World, references?: string[]]> = {
    "a reference that nobody asks for": [{}, ["one.test/a/other:1"]],
    "another tag than is asked for": [{}, ["one.test/a/app:2"]],
    "a host for which there is a login, but no Image": [{}, ["two.test/a/app:1"]],
    "an Image of other nodes": [{ images: [wants("team", "pull", { selector: zoneB })] }],
    "an Image that names no Secret": [
      { images: [wants("team", "pull", { imagePullSecrets: [] })], plans: [planFor(image)] },
    ],
    "a Secret of another namespace": [{ images: [wants("third", "pull")] }],
    "a Secret that the Image does not name": [{ images: [wants("team", "other")] }],
    "a plan whose Image is gone": [{ images: [], plans: [planFor(image)] }],
    "a plan of an Image that had the name before": [
      {
        images: [{ ...image, metadata: { ...image.metadata, uid: "new" } }],
        plans: [planFor(image)],
      },
    ],
    "an Image that is not planned yet": [{ plans: [] }],
    "a node that is not there": [{ caller: { node: "node3" } }],
  };
  for (const [what, [options, references]] of Object.entries(without)) {
    test(`has no login for ${what}`, async () => {
      assert.deepEqual(await loginsOf(options, references), []);
    });
  }

  test("lets a Secret of one namespace that is being read keep no other one's login", async () => {
    const images = [wants("team", "pull"), wants("others", "pull")];
    const { status, body } = await world({
      images,
      isRead: (namespace) => namespace === "team",
    }).post({ references: [app] });

    assert.equal(status ?? 200, 200);
    assert.match(body, /secret-reef/);
  });

  test("says 503 until the caches are filled and the Secrets are read", async () => {
    for (const options of [{ hasSynced: false }, { isRead: () => false }]) {
      assert.equal((await world(options).post({ references: [app] })).status, 503);
    }
    assert.deepEqual(await loginsOf({ isRead: () => false }, ["two.test/a/app:1"]), []);
  });

  test("refuses whom it does not know, with the status of the review", async () => {
    for (const status of [401, 403, 503] as const) {
      const { post } = world({ caller: { status, message: "no" } });
      assert.deepEqual(await post({ references: [app] }), { status, body: "no\n" });
    }
  });

  const bad: Record<string, [unknown, RegExp]> = {
    "no object": [[], /^references: must be a list/],
    "no list": [{ references: app }, /^references: must be a list/],
    "a number": [{ references: [app, 1] }, /^references\[1\]: must be a text/],
    "no reference": [{ references: [app, "a b"] }, /^references\[1\]: "a b" must /],
    "too many": [
      { references: Array(1_001).fill(app) },
      /^references: has 1001, must have at most 1000/,
    ],
    "a long text": [{ references: ["x".repeat(100_000)] }, /^references\[0\]: "x{100}" must /],
  };
  for (const [what, [body, expected]] of Object.entries(bad)) {
    test(`refuses ${what} and says what it should be`, async () => {
      const reply = await world().post(body);
      assert.equal(reply.status, 400);
      assert.match(reply.body, expected);
    });
  }

  const repositories = [
    { name: "one.test/a/app", tags: ["1"], listSelection: "listed" },
    { name: "one.test/slow", tags: ["1"], listSelection: "listed" },
    { name: "two.test/a/app", tags: ["1"], listSelection: "listed" },
  ] as const;
  const slow = "one.test/slow:1";

  test("has a provider's login for an Image that names no Secret, of whatever namespace", async () => {
    for (const namespace of ["team", "nobody"]) {
      const images = [wants(namespace, "pull", { imagePullSecrets: [], repositories })];
      assert.deepEqual(await loginsOf({ images, providers: aCloud() }, [app, "two.test/a/app:1"]), [
        { ...anna, login: fromCloud },
      ]);
    }
  });

  test("has a provider's login after those of the Secrets", async () => {
    assert.deepEqual(await loginsOf({ providers: aCloud() }), [
      anna,
      { ...anna, login: fromCloud },
    ]);
  });

  for (const what of [
    "a reference that nobody asks for",
    "another tag than is asked for",
    "an Image of other nodes",
    "a plan whose Image is gone",
    "a plan of an Image that had the name before",
    "an Image that is not planned yet",
    "a node that is not there",
  ]) {
    test(`asks no provider for ${what}`, async () => {
      const [options, references] = without[what] ?? [];
      const providers = aCloud();

      assert.deepEqual(await loginsOf({ ...options, providers }, references), []);
      assert.deepEqual(providers.asked, []);
    });
  }

  test("lets a provider that is late for one reference keep no other one's login", async () => {
    const images = [wants("team", "other", { repositories })];
    const logins = await loginsOf({ images, providers: aCloud(600_000) }, [slow, app]);

    assert.deepEqual(logins, [{ ...anna, login: fromCloud }]);
  });

  test("says 503 if all that is asked for waits for a provider", async () => {
    const images = [wants("team", "other", { repositories })];
    const { post } = world({ images, providers: aCloud(600_000) });

    assert.equal((await post({ references: [slow] })).status, 503);
  });

  test("logs who asked and for how many, and nothing of a login", async () => {
    const { post, lines } = world();
    await post({ references: [app, "one.test/a/other:1"] });
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? "", /"node":"node1","references":2,"logins":1/);
    assert.doesNotMatch(lines.join(""), /anna|secret/);
  });
});
