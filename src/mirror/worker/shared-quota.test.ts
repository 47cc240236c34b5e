import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";

import { registryBudgets } from "#api/v1/resources.ts";
import type { Clock } from "#async/clock.ts";
import type { Login } from "#remote/keyring.ts";
import { networkPolicy } from "#remote/network-policy.ts";
import { RegistryClient } from "#remote/registry-client.ts";
import { Quota, subjectOf, type QuotaOptions } from "#sandbox/upstream/quota.ts";
import { loginOfHeader } from "#sandbox/upstream/login.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { RecordingHost, respondJson } from "#test/recording-host.ts";
import { settle, SharingWorker } from "#test/sharing-worker.ts";
import { budgetNames } from "./budget-name.ts";
import type { SharedBudgetsOptions } from "./shared-budgets.ts";

const { signal } = new AbortController();
const anna = { username: "anna", password: "anemone" };
const ben = { username: "ben", password: "barnacle" };

/** Workers that share what they are told. */
async function setUp(options: Partial<SharedBudgetsOptions> & { clock: Clock }) {
  const stack = new AsyncDisposableStack();
  const server = stack.use(await FakeApiServer.start({ resources: [registryBudgets] }));
  const identities = ["a", "b", "c"];
  const membership = { members: new Set(identities) };
  const start = async (identity: string) =>
    stack.use(await SharingWorker.start(server, { ...options, membership, identity }));
  const workers = await Promise.all(identities.map(start));
  return { server, workers, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** A registry that takes 20 ms for a request, and as long for its answer. */
class SlowRegistry {
  readonly #clock: ManualClock;
  readonly #quota: Quota;
  granted = 0;
  refused = 0;

  constructor(clock: ManualClock, options: QuotaOptions) {
    this.#clock = clock;
    this.#quota = new Quota(options);
  }

  /** Sends one request until it is granted. */
  async ask(worker: SharingWorker, login: Login): Promise<void> {
    for (let isGranted = false; !isGranted;) {
      using permit = await worker.enter({ login });
      await this.#clock.sleep(20, { signal });
      const ticket = this.#quota.take(JSON.stringify(login), this.#clock.now().getTime());
      await this.#clock.sleep(20, { signal });
      ({ isGranted } = ticket);
      permit.answered({
        status: isGranted ? 200 : 429,
        header: (name) => ticket.headers[name],
        isThrottled: !isGranted,
      });
      if (isGranted) this.granted++;
      else this.refused++;
    }
  }
}

describe("three workers with one login", () => {
  const registries: Record<string, { quota: QuotaOptions; maxRefused: number; seconds: number }> = {
    "send no more than a registry grants, if it says how many that is": {
      quota: { limit: 100, windowSeconds: 60 },
      maxRefused: 0,
      seconds: 185, // In each window one is left that three cannot divide.
    },
    "send no more though that is less than they could have on their way": {
      quota: { limit: 20, windowSeconds: 10 },
      maxRefused: 0,
      seconds: 35,
    },
    "send one each after a wait, though that is more than it grants": {
      quota: { limit: 2, windowSeconds: 5 },
      maxRefused: 3,
      seconds: 20,
    },
    "send what they had on their way when it is spent, if it never says how many are left": {
      quota: { limit: 100, windowSeconds: 60, isSilent: true },
      maxRefused: 3 * 3 * 16,
      seconds: 125,
    },
  };
  for (const [fact, { quota, maxRefused, seconds }] of Object.entries(registries)) {
    test(fact, async () => {
      const clock = new ManualClock();
      const startMs = clock.now().getTime();
      await using world = await setUp({ clock });
      const registry = new SlowRegistry(clock, quota);
      const wanted = quota.limit * 3;
      const asking = world.workers.flatMap((worker) =>
        Array.from({ length: quota.limit }, () => registry.ask(worker, anna)),
      );
      while (registry.granted < wanted && clock.now().getTime() - startMs < seconds * 1_000) {
        await clock.advance(100);
        await settle(world.workers);
      }

      assert.equal(registry.granted, wanted);
      assert.ok(registry.refused <= maxRefused, `${registry.refused} were refused`);
      await Promise.all(asking);
    });
  }

  test("hold up no other login", async () => {
    const clock = new ManualClock();
    await using world = await setUp({ clock });
    const registry = new SlowRegistry(clock, { limit: 30, windowSeconds: 3_600 });
    for (const worker of world.workers) {
      for (let number = 0; number < 30; number++) void registry.ask(worker, anna).catch(() => {});
    }
    for (let passed = 0; passed < 20; passed++) {
      await clock.advance(100);
      await settle(world.workers);
    }
    const before = registry.granted;

    const others = world.workers.map((worker) => registry.ask(worker, ben));
    await clock.advance(40);
    await Promise.all(others);

    assert.ok(before >= 28 && before <= 30, `${before}`);
    assert.equal(registry.granted, before + 3);
    assert.equal(registry.refused, 0);
  });
});

describe("three registry clients with one login", () => {
  /** Time that runs thirty times as fast. */
  const clock: Clock = {
    now: () => new Date(performance.timeOrigin + performance.now() * 30),
    sleep: (ms, options) => setTimeout(ms / 30, undefined, options),
  };

  test("read all manifests though the registry grants a third in a window, and another waits for nothing", async () => {
    const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, layers: [] }));
    const quota = new Quota({ limit: 20, windowSeconds: 10 });
    let refused = 0;
    await using host = await RecordingHost.start(({ authorization }, response) => {
      const login = loginOfHeader(authorization);
      if (!login) {
        return respondJson(response, 401, {}, { "www-authenticate": 'Basic realm="hub"' });
      }
      const { isGranted, headers } = quota.take(subjectOf(login), clock.now().getTime());
      if (!isGranted) refused++;
      if (!isGranted) return respondJson(response, 429, {}, headers);
      response.writeHead(200, {
        ...headers,
        "content-type": "application/vnd.oci.image.manifest.v1+json",
        "docker-content-digest": `sha256:${hash("sha256", manifest)}`,
      });
      response.end(manifest);
    });
    await using world = await setUp({ clock, nameOf: budgetNames("c0ffee") });
    await using stack = new AsyncDisposableStack();
    const clients = world.workers.map(({ budgets }) =>
      stack.use(
        new RegistryClient({
          userAgent: "coral/test",
          log: silentLog,
          clock,
          network: networkPolicy({ deniedNetworks: [], allowedNetworks: ["127.0.0.0/8"] }),
          plainHttp: [host.host],
          budgets,
        }),
      ),
    );
    const read = (client: RegistryClient, login: Login) =>
      client.repository(`${host.host}/team/app`, { logins: [login] }).manifest("1", { signal });

    const reading = clients.flatMap((client) =>
      Array.from({ length: 18 }, () => read(client, anna)),
    );
    const isDone = Promise.all(reading).then(() => "all");
    while (world.server.list(registryBudgets).length === 0) await setTimeout(5);
    const other = Promise.all(clients.map((client) => read(client, ben))).then(() => "other");

    assert.equal(await Promise.race([isDone, other]), "other");
    await isDone;
    assert.ok(refused <= 3 * 3, `${refused} were refused`);
    const shared = world.server.list(registryBudgets);
    assert.doesNotMatch(JSON.stringify(shared), /anna|anemone|ben|barnacle/);
    const nameOf = budgetNames("c0ffee");
    const names = await Promise.all([anna, ben].map((login) => nameOf({ host: host.host, login })));
    for (const { metadata } of shared.map((object) => registryBudgets.parse(object))) {
      assert.ok(names.includes(metadata.name));
    }
  });
});
