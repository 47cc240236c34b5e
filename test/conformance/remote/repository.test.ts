import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { systemClock } from "#async/clock.ts";
import type { Login } from "#remote/keyring.ts";
import { networkPolicy } from "#remote/network-policy.ts";
import { RegistryClient } from "#remote/registry-client.ts";
import { silentLog } from "#telemetry/log.ts";
import { aBlob, contentTargetSuite, inChunks, read } from "./content-suite.ts";
import { startDistribution, type Distribution, type DistributionVersion } from "./distribution.ts";
import { FaultProxy } from "./fault-proxy.ts";
import { removalSuite } from "./removal-suite.ts";

/** The registry's program may have to be built first. */
const startTimeoutMs = 30 * 60_000;

function aClient(host: string): RegistryClient {
  return new RegistryClient({
    userAgent: "coral/conformance",
    log: silentLog,
    clock: systemClock,
    network: networkPolicy({ deniedNetworks: [], allowedNetworks: ["127.0.0.1/32"] }),
    plainHttp: [host],
  });
}

function start(
  login: (Login & { username: string; password: string }) | undefined,
  version: DistributionVersion,
  { canDelete = true } = {},
) {
  const signal = AbortSignal.timeout(startTimeoutMs);
  return startDistribution(login, { version, canDelete, signal });
}

const anybody = undefined;
const coral = { username: "coral", password: "reef" };

for (const version of ["2.8", "3.1"] as const) {
  for (const [asks, login] of [
    ["open to all", anybody],
    ["with htpasswd", coral],
  ] as const) {
    contentTargetSuite(`CNCF distribution ${version} ${asks}`, async () => {
      const registry = await start(login, version);
      const client = aClient(registry.host);
      const logins = login ? [{ ...login, password: "wrong" }, login] : [];
      return {
        repository: (path) =>
          client.repository(`${registry.host}/${path}`, { logins, actions: "pull,push" }),
        async [Symbol.asyncDispose]() {
          await client[Symbol.asyncDispose]();
          await registry[Symbol.asyncDispose]();
        },
      };
    });
  }
}

for (const [version, canDelete, removes] of [
  ["2.8", true, "digests"],
  ["3.1", true, "tags and digests"],
  ["2.8", false, "nothing"],
  ["3.1", false, "nothing"],
] as const) {
  removalSuite(`CNCF distribution ${version}`, removes, async () => {
    const registry = await start(anybody, version, { canDelete });
    const client = aClient(registry.host);
    const actions = "pull,push,delete";
    return {
      repository: (path) => client.repository(`${registry.host}/${path}`, { logins: [], actions }),
      async [Symbol.asyncDispose]() {
        await client[Symbol.asyncDispose]();
        await registry[Symbol.asyncDispose]();
      },
    };
  });
}

for (const version of ["2.8", "3.1"] as const) {
  describe(`RemoteRepository at CNCF distribution ${version} over a bad connection`, () => {
    const { signal } = new AbortController();
    const blob = aBlob(5_000_000, "bad connection");
    const { descriptor, bytes } = blob;
    const open = (fromByte: number): AsyncIterable<Buffer> => inChunks(bytes, fromByte);
    let registry: Distribution;
    let proxy: FaultProxy;
    let client: RegistryClient;

    before(async () => {
      registry = await start(anybody, version);
      proxy = await FaultProxy.start(registry.host);
      client = aClient(proxy.host);
    });

    after(async () => {
      await client?.[Symbol.asyncDispose]();
      await proxy?.[Symbol.asyncDispose]();
      await registry?.[Symbol.asyncDispose]();
    });

    const repository = (path: string) =>
      client.repository(`${proxy.host}/${path}`, { logins: [], actions: "pull,push" });

    test("goes on with a download that broke off, and reads no byte twice", async () => {
      const source = repository("team/down");
      await source.writeBlob(descriptor, open, { signal });
      const before = proxy.broken;
      proxy.breakAfter(2_000_000, "down");

      const found = await read(source.blob(descriptor, { signal }));

      assert.ok(found.equals(bytes));
      assert.equal(proxy.broken, before + 1);
    });

    test("stores a blob whose upload broke off", async () => {
      const target = repository("team/up");
      const before = proxy.broken;
      proxy.breakAfter(2_000_000, "up");

      await target.writeBlob(descriptor, open, { signal });

      assert.equal(proxy.broken, before + 1);
      assert.ok((await read(target.blob(descriptor, { signal }))).equals(bytes));
    });

    test("stores a blob where nobody heard that it is stored", async () => {
      const target = repository("team/unheard");
      const before = proxy.broken;
      let sent = 0;
      const onProgress = (sentBytes: number): void => {
        sent = sentBytes;
        if (sentBytes === bytes.length) proxy.breakAfter(1, "down");
      };

      await target.writeBlob(descriptor, open, { signal, onProgress });

      assert.equal(proxy.broken, before + 1);
      assert.equal(sent, bytes.length);
      assert.equal(await target.hasBlob(descriptor.digest, { signal }), true);
    });
  });
}
