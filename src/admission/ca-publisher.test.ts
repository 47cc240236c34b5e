import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { KubeClient } from "#kube/client.ts";
import { configMaps, validatingWebhookConfigurations } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { bundlePatch, publishCa } from "./ca-publisher.ts";
import { CurrentCertificate } from "./current-certificate.ts";

const namespace = "coral-system";
const hook = { name: "coral-validation" };
const certificate = { cert: "c", key: "k" };

interface Bench {
  readonly server: FakeApiServer;
  readonly certificates: CurrentCertificate;
  readonly clock: ManualClock;
  becomes(read: () => unknown, value: unknown): Promise<void>;
}

/** Publishes while a scene is played. */
async function publishing(
  { signal }: { signal: AbortSignal },
  webhooks: string | undefined,
  play: (bench: Bench) => Promise<void>,
): Promise<void> {
  const resources = [configMaps, validatingWebhookConfigurations];
  await using server = await FakeApiServer.start({ resources });
  const options = { config: server.config, log: silentLog, userAgent: "coral-controller/0" };
  await using client = new KubeClient(options);
  const clientConfigs = [{ url: "https://a" }, { url: "https://b", caBundle: "b2xk" }];
  server.create(validatingWebhookConfigurations, {
    metadata: hook,
    webhooks: clientConfigs.map((clientConfig, index) => ({ name: `w${index}`, clientConfig })),
  });
  const certificates = new CurrentCertificate(silentLog);
  const stop = new AbortController();
  const limited = AbortSignal.any([signal, AbortSignal.timeout(20_000)]);
  const scope = AbortSignal.any([limited, stop.signal]);
  const clock = new ManualClock();
  const names = { namespace, configMap: "coral-ca", ...(webhooks && { webhooks }) };
  const common = { client, certificates, clock, random: () => 0, log: silentLog };
  const published = publishCa({ ...names, ...common }, scope);
  const becomes = async (read: () => unknown, value: unknown): Promise<void> => {
    while (read() !== value) {
      limited.throwIfAborted();
      await setImmediate();
    }
  };
  try {
    await play({ server, certificates, clock, becomes });
  } finally {
    stop.abort();
    await published;
  }
}

function caOf({ server }: Bench): unknown {
  const map = server.get(configMaps, `${namespace}/coral-ca`);
  return map && configMaps.parse(map).data?.["ca.crt"];
}

function bundlesOf({ server }: Bench): string {
  const found = server.get(validatingWebhookConfigurations, hook.name);
  const { webhooks = [] } = validatingWebhookConfigurations.parse(found);
  return webhooks
    .map(({ clientConfig: { caBundle = "" } }) => Buffer.from(caBundle, "base64").toString())
    .join();
}

describe("publishCa()", () => {
  test("tells clients and the API server, and what comes after it", async (t) => {
    await publishing(t, hook.name, async (bench) => {
      bench.certificates.set(certificate, "one");
      await bench.becomes(() => caOf(bench), "one");
      await bench.becomes(() => bundlesOf(bench), "one,one");
      bench.certificates.set(certificate, "two");
      await bench.becomes(() => caOf(bench), "two");
      await bench.becomes(() => bundlesOf(bench), "two,two");
    });
  });

  test("mends what a person changed or deleted, and leaves the rest of it alone", async (t) => {
    await publishing(t, hook.name, async (bench) => {
      const { server } = bench;
      bench.certificates.set(certificate, "one");
      await bench.becomes(() => caOf(bench), "one");
      server.merge(configMaps, `${namespace}/coral-ca`, { data: { "ca.crt": "x", mine: "y" } });
      await bench.becomes(() => caOf(bench), "one");
      const map = configMaps.parse(server.get(configMaps, `${namespace}/coral-ca`));
      assert.equal(map.data?.["mine"], "y");
      server.delete(configMaps, `${namespace}/coral-ca`);
      await bench.becomes(() => caOf(bench), "one");
      await bench.becomes(() => bundlesOf(bench), "one,one");
      const clientConfig = { url: "https://c" };
      server.merge(validatingWebhookConfigurations, hook.name, {
        webhooks: [{ name: "w9", clientConfig }],
      });
      await bench.becomes(() => bundlesOf(bench), "one");
    });
  });

  test("leaves webhooks to others if they see to it, and makes no configuration", async (t) => {
    await publishing(t, undefined, async (bench) => {
      bench.certificates.set(certificate, "one");
      await bench.becomes(() => caOf(bench), "one");
      assert.equal(bundlesOf(bench), ",old");
    });
    await publishing(t, "another", async (bench) => {
      bench.certificates.set(certificate, "one");
      await bench.becomes(() => caOf(bench), "one");
      assert.equal(bench.server.list(validatingWebhookConfigurations).length, 1);
    });
  });

  test("tries again when a write is refused", async (t) => {
    await publishing(t, hook.name, async (bench) => {
      bench.server.fail({ status: 500, times: 2, matching: ({ method }) => method !== "GET" });
      bench.certificates.set(certificate, "one");
      const turn = async (): Promise<void> => bench.clock.advance(1_000);
      while (caOf(bench) !== "one" || bundlesOf(bench) !== "one,one") await turn();
    });
  });
});

describe("bundlePatch()", () => {
  test("changes what differs, if it still is the webhook it was", () => {
    const webhooks = ["a", "b"].map((name) => ({
      name,
      clientConfig: name === "a" ? { caBundle: "new" } : {},
    }));

    assert.deepEqual(bundlePatch({ metadata: hook, webhooks }, "new"), [
      { op: "test", path: "/webhooks/1/name", value: "b" },
      { op: "add", path: "/webhooks/1/clientConfig/caBundle", value: "new" },
    ]);
    assert.deepEqual(bundlePatch({ metadata: hook }, "new"), []);
  });
});
