import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { certificateDue, renew, type Due } from "./certificate-due.ts";
import { issueAuthority, issueServing } from "./issue.ts";
import { hasIssued, readTlsSecret, type TlsState, type TlsTexts } from "./tls-state.ts";

const dayMs = 86_400_000;
const start = new Date("2026-01-01T00:00:00Z");
const dnsNames = ["coral-controller.coral-system.svc", "coral-controller.coral-system"];

function after(days: number, from = start): Date {
  return new Date(from.getTime() + days * dayMs);
}

/** What is read of a Secret with these fields. */
function stateOf(texts: Partial<TlsTexts>): TlsState {
  const data = Object.fromEntries(
    Object.entries(texts).map(([field, text]) => [field, Buffer.from(text).toString("base64")]),
  );
  return readTlsSecret({ metadata: { name: "coral-tls" }, data });
}

/** Does what is due until nothing is, as the queue does. */
function keepUp(state: TlsState, now: Date): { state: TlsState; due: Due[] } {
  const input = { now, dnsNames };
  const acts: Due[] = [];
  for (let current = state; ;) {
    const due = certificateDue(current, input);
    if (due.act === "wait") return { state: current, due: acts };
    acts.push(due);
    assert.ok(acts.length < 5, "it must come to an end");
    current = stateOf(renew(current, due, input));
  }
}

const fresh = keepUp(readTlsSecret(undefined), start).state;

/** Only what changed: which certificates were made. */
function made(due: readonly Due[]): string[] {
  return due.map((each) =>
    each.act === "wait"
      ? "wait"
      : [each.authority && "authority", each.serving && "serving"].filter(Boolean).join("+") ||
        "bundle",
  );
}

describe("certificateDue()", () => {
  test("wants everything where there is nothing, and nothing more afterwards", () => {
    const { state, due } = keepUp(readTlsSecret(undefined), start);

    assert.deepEqual(made(due), ["authority+serving"]);
    assert.match(due[0]?.act === "renew" ? due[0].why : "", /there is no Secret/);
    assert.deepEqual(state.problems, []);
    assert.equal(state.authorities.length, 1);
    for (const name of dnsNames) assert.equal(state.serving?.leaf.checkHost(name), name);
    assert.equal(state.serving?.leaf.checkHost("other.svc"), undefined);
  });

  test("waits at most half a day, so that a clock that is set right is noticed", () => {
    const due = certificateDue(fresh, { now: start, dnsNames });
    assert.deepEqual(due, { act: "wait", forMs: dayMs / 2 });
    const soon = certificateDue(fresh, { now: after(59.8), dnsNames });

    assert.equal(soon.act, "wait");
    assert.ok(soon.act === "wait" && soon.forMs < dayMs / 2);
  });

  test("renews what is served with a third of its time left, by the same authority", () => {
    assert.deepEqual(made(keepUp(fresh, after(59)).due), []);
    const { state, due } = keepUp(fresh, after(61));

    assert.deepEqual(made(due), ["serving"]);
    assert.equal(String(state.authorities[0]), String(fresh.authorities[0]));
    assert.notEqual(state.serving?.cert, fresh.serving?.cert);
  });

  test("makes another name good as well", () => {
    const due = certificateDue(fresh, { now: start, dnsNames: [...dnsNames, "other.svc"] });

    assert.deepEqual(made([due]), ["serving"]);
    assert.match(due.act === "renew" ? due.why : "", /not good for other\.svc/);
  });

  test("lets a certificate from the future be: replicas would replace each other's for ever", () => {
    assert.deepEqual(made(keepUp(fresh, after(-400)).due), []);
  });

  test("makes all anew after years without anybody", () => {
    const { state, due } = keepUp(fresh, after(800));

    assert.deepEqual(made(due), ["authority+serving"]);
    assert.equal(state.authorities.length, 1, "an expired authority is dropped");
  });

  test("rotates the authority without a moment in which a client of the old bundle is lost", () => {
    let state = fresh;
    const [first] = fresh.authorities;
    const seen = { authorities: new Set<string>(), most: 0 };
    for (let day = 0; day < 900; day += 0.5) {
      const before = state;
      ({ state } = keepUp(state, after(day)));
      const { serving, authorities } = state;
      assert.ok(serving && serving.leaf.validToDate > after(day));
      if (state === before) continue; // It has been looked at.
      // Whoever trusts what was published half a day ago, or just now, trusts what is served now.
      for (const published of [before, state]) {
        assert.ok(published.authorities.some((authority) => hasIssued(authority, serving.leaf)));
      }
      for (const authority of authorities) seen.authorities.add(String(authority));
      seen.most = Math.max(seen.most, authorities.length);
    }

    assert.equal(seen.authorities.size, 2);
    assert.equal(seen.most, 2);
    assert.equal(state.authorities.length, 1);
    assert.notEqual(String(state.authorities[0]), String(first));
  });

  test("has an authority that comes to its end sign once more beside its successor", () => {
    const { state, due } = keepUp(fresh, after(500));
    const [successor, first] = state.authorities;

    assert.deepEqual(made(due), ["authority+serving"]);
    assert.ok(successor && first && state.serving);
    assert.equal(String(first), String(fresh.authorities[0]));
    assert.ok(hasIssued(first, state.serving.leaf));
    assert.equal(hasIssued(successor, state.serving.leaf), false);
    assert.equal(String(state.signer?.certificate), String(successor));
  });
});

describe("a spoiled Secret", () => {
  const texts = renew(
    readTlsSecret(undefined),
    { act: "renew", authority: true, serving: true, why: "" },
    { now: start, dnsNames },
  );
  const validity = { notBefore: after(-1), notAfter: after(400) };
  const foreign = issueAuthority(validity);
  const foreignServing = issueServing(foreign, { ...validity, dnsNames });
  const garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  const cases: Record<string, [change: Partial<TlsTexts>, wanted: string[], problem: RegExp]> = {
    "without a certificate": [{ "tls.crt": "" }, ["serving"], /^tls\.crt: must be there$/],
    "with garbage for a certificate": [
      { "tls.crt": garbage },
      ["serving"],
      /^tls\.crt: must be a certificate in PEM$/,
    ],
    "with garbage for a key": [
      { "tls.key": "x" },
      ["serving"],
      /^tls\.key: must be a private key in PEM$/,
    ],
    "with another certificate's key": [
      { "tls.key": foreignServing.key },
      ["serving"],
      /^tls\.key: must be the key of tls\.crt$/,
    ],
    "with a certificate of another authority": [
      { "tls.crt": foreignServing.cert, "tls.key": foreignServing.key },
      ["serving"],
      /^tls\.crt: must be signed by a certificate in ca\.crt$/,
    ],
    "without the authority's key": [{ "ca.key": "" }, ["authority"], /^ca\.key: must be there$/],
    "with another authority's key": [
      { "ca.key": foreign.key },
      ["authority"],
      /^ca\.key: must be the key of a certificate in ca\.crt$/,
    ],
    "with garbage for authorities": [
      { "ca.crt": `${garbage}x` },
      ["authority+serving"],
      /^ca\.crt: must be a certificate in PEM$/,
    ],
    "with a server's certificate for an authority": [
      { "ca.crt": texts["tls.crt"] },
      ["authority+serving"],
      /^ca\.crt: must be certificates of authorities$/,
    ],
    "with far too much": [
      { "tls.crt": "x".repeat(70_000) },
      ["serving"],
      /^tls\.crt: must have at most 65536 characters$/,
    ],
  };
  for (const [what, [change, wanted, problem]] of Object.entries(cases)) {
    test(`${what} is mended, and what is in order stays`, () => {
      const spoiled = stateOf({ ...texts, ...change });
      const { state, due } = keepUp(spoiled, start);

      assert.ok(
        spoiled.problems.some((text) => problem.test(text)),
        spoiled.problems.join("\n"),
      );
      assert.deepEqual(made(due), wanted);
      assert.deepEqual(state.problems, []);
    });
  }

  test("tells nothing of a key", () => {
    const secret = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----";
    const { problems } = stateOf({ ...texts, "tls.key": secret, "ca.key": secret });

    assert.equal(problems.length, 2);
    assert.doesNotMatch(problems.join(), /secret/);
  });
});
