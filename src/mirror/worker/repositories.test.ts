import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { MirrorShardSpec } from "#api/v1/mirror-shard.ts";
import type { KeyringEntry, Login } from "#remote/keyring.ts";
import type { RepositoryOptions } from "#remote/registry-client.ts";
import { FakeRegistry } from "#test/fake-repository.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import type { ClientSetup } from "./client-pool.ts";
import { Repositories, type OpenedShard } from "./repositories.ts";

interface Opening extends RepositoryOptions {
  readonly name: string;
  readonly setup: ClientSetup;
}

const login = (username: string): Login => ({ username, password: `of ${username}` });

function entry(registry: string, username: string, path = ""): KeyringEntry {
  return { registry, path, login: login(username) };
}

/** Secrets of the namespace `team`, of which some are still being read. */
class Secrets {
  readonly reading = new Set<string>();
  readonly entries = new Map<string, KeyringEntry[]>();
  ca: string | undefined;
  readonly #listeners = new Set<(secret: { namespace: string; name: string }) => void>();

  entriesFor(namespace: string, names: readonly string[]): KeyringEntry[] {
    return namespace === "team" ? names.flatMap((name) => this.entries.get(name) ?? []) : [];
  }

  problemsOf(_namespace: string, names: readonly string[], { ca = "" } = {}): never[] {
    this.asked = [...names, ca];
    return [];
  }

  asked: string[] = [];

  revisionOf(_namespace: string, names: readonly string[]): string | undefined {
    return names.some((name) => this.reading.has(name)) ? undefined : "1";
  }

  caOf(): string | undefined {
    return this.ca;
  }

  onChange(listener: (secret: { namespace: string; name: string }) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  read(name: string): void {
    this.reading.delete(name);
    for (const listener of this.#listeners) listener({ namespace: "team", name });
  }
}

interface Scene {
  secrets: Secrets;
  openings: Opening[];
  throttles: number[];
  open: (spec?: Partial<MirrorShardSpec>, namespace?: string) => Promise<OpenedShard>;
  repositories: Repositories;
}

function aScene(
  signal: AbortSignal,
  { providersPushTo = [] }: { providersPushTo?: readonly string[] } = {},
): Scene {
  const secrets = new Secrets();
  secrets.entries.set("pull", [
    entry("source.test", "reader"),
    entry("source.test", "team-reader", "org"),
    entry("target.test", "leaked"),
  ]);
  secrets.entries.set("push", [entry("target.test", "writer"), entry("source.test", "leaked")]);
  const openings: Opening[] = [];
  const registry = new FakeRegistry();
  const repositories = new Repositories({
    secrets,
    providers: {
      loginsFor: async ({ registry: host, path }) =>
        path.startsWith("cloud/") || host !== "source.test" ? [login(`operator-of-${host}`)] : [],
    },
    providersPushTo,
    clock: new ManualClock(),
    plainHttp: ["plain.test", "target.test"],
    connect: (setup) => ({
      repository(name, options) {
        openings.push({ name, setup, ...options });
        return registry.repository(name);
      },
      async [Symbol.asyncDispose]() {},
    }),
  });
  const throttles: number[] = [];
  return {
    secrets,
    openings,
    throttles,
    repositories,
    open: (spec = {}, namespace = "team") =>
      repositories.open(
        aMirrorShard(
          { imagePullSecrets: [{ name: "pull" }], pushSecret: { name: "push" }, ...spec },
          { metadata: { namespace } },
        ),
        { onThrottled: (untilMs) => throttles.push(untilMs), signal },
      ),
  };
}

const namesOf = ({ logins }: Opening): string[] =>
  logins.map((each) => ("username" in each ? each.username : ""));

describe("Repositories", () => {
  test("shows each side its own logins, the longest prefix first, and then the operator's", async ({
    signal,
  }) => {
    const { open, openings } = aScene(signal);
    using opened = await open();
    using _cloud = await open({ source: "source.test/cloud/app" });

    assert.deepEqual(
      openings.map((each) => [each.name, ...namesOf(each), each.actions ?? "pull"]),
      [
        ["source.test/org/app", "team-reader", "reader", "pull"],
        ["target.test/org/app", "writer", "pull,push"],
        ["source.test/cloud/app", "reader", "operator-of-source.test", "pull"],
        ["target.test/org/app", "writer", "pull,push"],
      ],
    );
    assert.equal(opened.path, "org/app");
    assert.equal(opened.hosts.target, "target.test");
  });

  test("pushes with the operator's login only where he says that everybody may", async ({
    signal,
  }) => {
    const { open, openings } = aScene(signal, { providersPushTo: ["target.test"] });
    using _there = await open();
    using _elsewhere = await open({ target: "other.test/org/app" });
    const tls = { plainHTTP: true, insecureSkipVerify: false };
    using _clear = await open({ target: "target.test/org/clear", tls });

    assert.deepEqual(
      openings
        .filter(({ actions }) => actions === "pull,push")
        .map((each) => [each.name, ...namesOf(each)]),
      [
        ["target.test/org/app", "writer", "operator-of-target.test"],
        ["other.test/org/app"],
        ["target.test/org/clear", "writer"],
      ],
    );
  });

  test("shows no login of another namespace", async ({ signal }) => {
    const { open, openings } = aScene(signal);
    using _opened = await open({}, "others");

    assert.deepEqual(openings.map(namesOf), [[], []]);
  });

  test("counts who has another login apart, and nobody's login is in that", async ({ signal }) => {
    const { open, secrets } = aScene(signal);
    using first = await open();
    using same = await open();
    secrets.entries.set("pull", [entry("source.test", "other")]);
    using other = await open();
    using anybody = await open({ imagePullSecrets: [] });

    assert.equal(first.hosts.source, same.hosts.source);
    assert.notEqual(first.hosts.source, other.hosts.source);
    assert.equal(anybody.hosts.source, "source.test");
    assert.doesNotMatch(other.hosts.source, /other|of /);
  });

  test("may remove only where something is to be removed", async ({ signal }) => {
    const { open, openings } = aScene(signal);
    using _opened = await open({ removals: [{ tag: "1", digest: `sha256:${"0".repeat(64)}` }] });

    assert.equal(openings[1]?.actions, "pull,push,delete");
  });

  test("speaks to the target as the Mirror says, else as the operator does", async ({ signal }) => {
    const { open, openings, secrets } = aScene(signal);
    secrets.ca = "pem";
    const no = { plainHTTP: false, insecureSkipVerify: false };
    for (const tls of [
      undefined,
      no,
      { ...no, plainHTTP: true },
      { ...no, insecureSkipVerify: true },
      { ...no, caSecret: { name: "ca" } },
    ]) {
      using _opened = await open({ ...(tls && { tls }) });
    }

    const operators = { plainHttp: ["plain.test", "target.test"] };
    const plainHttp = ["plain.test"];
    assert.deepEqual(
      openings.map(({ setup }) => setup).filter((_, index) => index % 2 === 1),
      [
        operators,
        { plainHttp, insecureSkipVerify: false },
        operators,
        { plainHttp, insecureSkipVerify: true },
        { plainHttp, ca: "pem", insecureSkipVerify: false },
      ],
    );
    assert.deepEqual(openings[4]?.setup, operators, "sources have nothing to do with it");
  });

  test("trusts nobody where the certificate to trust is missing", async ({ signal }) => {
    const { open, openings } = aScene(signal);
    const tls = { plainHTTP: false, insecureSkipVerify: false, caSecret: { name: "ca" } };

    await assert.rejects(open({ tls }), {
      code: "SECRET_INVALID",
      reason: 'Secret "ca" has no ca.crt that can be used',
    });
    assert.deepEqual(openings, []);
  });

  test("waits until Secrets are read that were named just now", async ({ signal }) => {
    const { open, openings, secrets } = aScene(signal);
    secrets.reading.add("push");
    const opening = open();
    secrets.read("other");
    await Promise.resolve();
    assert.deepEqual(openings, []);
    secrets.read("push");
    using _opened = await opening;

    assert.equal(openings.length, 2);
  });

  test("tells until when registries want to be left alone", async ({ signal }) => {
    const { open, openings, throttles } = aScene(signal);
    using _opened = await open();
    for (const { onThrottled } of openings) {
      onThrottled?.(5);
      onThrottled?.(undefined);
    }

    assert.deepEqual(throttles, [5, 5]);
  });

  test("asks what is wrong with all Secrets that a shard names", ({ signal }) => {
    const { repositories, secrets } = aScene(signal);
    const tls = { plainHTTP: false, insecureSkipVerify: false, caSecret: { name: "ca" } };
    const [imagePullSecrets, pushSecret] = [[{ name: "pull" }], { name: "push" }];
    repositories.problemsOf(aMirrorShard({ imagePullSecrets, pushSecret, tls }));

    assert.deepEqual(secrets.asked, ["pull", "push", "ca"]);
  });

  test("refuses names that are none", async ({ signal }) => {
    const { open } = aScene(signal);

    await assert.rejects(open({ source: "source.test/ORG" }), { code: "INVALID_REFERENCE" });
  });
});
