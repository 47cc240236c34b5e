import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { ManualClock } from "#test/manual-clock.ts";
import { ClientPool, type ClientSetup } from "./client-pool.ts";

class Client implements AsyncDisposable {
  isClosed = false;

  async [Symbol.asyncDispose](): Promise<void> {
    this.isClosed = true;
  }
}

function aPool(clock = new ManualClock()): { pool: ClientPool<Client>; made: Client[] } {
  const made: Client[] = [];
  const make = (): Client => {
    made.push(new Client());
    return made.at(-1) ?? new Client();
  };
  return { pool: new ClientPool({ make, clock, idleMs: 60_000, maxIdle: 2 }), made };
}

const plain = (...plainHttp: string[]): ClientSetup => ({ plainHttp });

describe("ClientPool", () => {
  test("has one client for each way to speak", () => {
    const { pool, made } = aPool();
    const setups = [
      plain("a", "b"),
      plain("b", "a"),
      plain(),
      { plainHttp: [], ca: "pem" },
      { plainHttp: [], insecureSkipVerify: true },
      { plainHttp: [], insecureSkipVerify: false },
    ];
    const clients = setups.map((setup) => made.indexOf(pool.use(setup).client));

    assert.deepEqual(clients, [0, 0, 1, 2, 3, 1]);
  });

  test("closes one that nobody has used for a while, and makes it anew", async () => {
    const clock = new ManualClock();
    const { pool, made } = aPool(clock);
    const [first, second] = [pool.use(plain()), pool.use(plain())];
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    await clock.advance(120_000);
    assert.equal(made[0]?.isClosed, false, "somebody uses it");
    second[Symbol.dispose]();
    await clock.advance(59_000);
    pool.use(plain())[Symbol.dispose]();
    await clock.advance(59_000);
    assert.equal(made[0]?.isClosed, false, "it was used meanwhile");
    await clock.advance(1_000);

    assert.equal(made[0]?.isClosed, true);
    assert.notEqual(pool.use(plain()).client, made[0]);
  });

  test("keeps only a few that nobody uses, and all that are in use", () => {
    const { pool, made } = aPool();
    const hosts = ["a", "b", "c", "d"];
    const lent = hosts.map((host) => pool.use(plain(host)));
    assert.ok(made.every(({ isClosed }) => !isClosed));
    for (const each of lent) each[Symbol.dispose]();

    assert.deepEqual(
      made.map(({ isClosed }) => isClosed),
      [true, true, false, false],
    );
  });

  test("closes all in the end", async () => {
    const { pool, made } = aPool();
    const lent = pool.use(plain("a"));
    pool.use(plain("b"))[Symbol.dispose]();
    await pool[Symbol.asyncDispose]();
    lent[Symbol.dispose]();

    assert.ok(made.every(({ isClosed }) => isClosed));
  });
});
