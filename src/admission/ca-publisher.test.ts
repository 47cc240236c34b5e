import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { KubeClient } from "#kube/client.ts";
import { configMaps, validatingWebhookConfigurations } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { publishCa, type Webhooks } from "./ca-publisher.ts";
import { CurrentCertificate } from "./current-certificate.ts";
import type { WebhookNeed } from "./webhook-need.ts";

const namespace = "coral-system";
const hook = { name: "coral-validation" };
const certificate = { cert: "c", key: "k" };
const configurations = [{ resource: validatingWebhookConfigurations, ...hook }];
const alwaysNeeded: WebhookNeed = {
  isNeeded: () => undefined,
  onChange: () => ({ [Symbol.dispose]() {} }),
};

interface Bench {
  readonly server: FakeApiServer;
  readonly certificates: CurrentCertificate;
  readonly clock: ManualClock;
  becomes(read: () => unknown, value: unknown): Promise<void>;
}

/** Publishes while a scene is played. */
async function publishing(
  { signal }: { signal: AbortSignal },
  webhooks: Partial<Webhooks>,
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
  const names = {
    namespace,
    configMap: "coral-ca",
    webhooks: { configurations, tellsCa: true, need: alwaysNeeded, ...webhooks },
  };
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

/** Whether the API server asks each webhook: what has no requirements selects everything. */
function askedOf({ server }: Bench): string {
  const found = server.get(validatingWebhookConfigurations, hook.name);
  const { webhooks = [] } = validatingWebhookConfigurations.parse(found);
  return webhooks
    .map(({ objectSelector: { matchExpressions = [] } = {} }) => matchExpressions.length === 0)
    .join();
}

describe("publishCa()", () => {
  test("tells clients and the API server, and what comes after it", async (t) => {
    await publishing(t, {}, async (bench) => {
      bench.certificates.set(certificate, "one");
      await bench.becomes(() => caOf(bench), "one");
      await bench.becomes(() => bundlesOf(bench), "one,one");
      bench.certificates.set(certificate, "two");
      await bench.becomes(() => caOf(bench), "two");
      await bench.becomes(() => bundlesOf(bench), "two,two");
    });
  });

  test("mends what a person changed or deleted, and leaves the rest of it alone", async (t) => {
    await publishing(t, {}, async (bench) => {
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
    await publishing(t, { tellsCa: false }, async (bench) => {
      bench.certificates.set(certificate, "one");
      await bench.becomes(() => caOf(bench), "one");
      assert.equal(bundlesOf(bench), ",old");
    });
    const another = {
      configurations: configurations.map((each) => ({ ...each, name: "another" })),
    };
    await publishing(t, another, async (bench) => {
      bench.certificates.set(certificate, "one");
      await bench.becomes(() => caOf(bench), "one");
      assert.equal(bench.server.list(validatingWebhookConfigurations).length, 1);
    });
  });

  test("has webhooks asked while they are needed, also those of which another tells the authorities", async (t) => {
    const listeners = new Set<() => void>();
    let isNeeded: boolean | undefined;
    const need: WebhookNeed = {
      isNeeded: (webhook) => (webhook === "w1" ? isNeeded : undefined),
      onChange(listener) {
        listeners.add(listener);
        return { [Symbol.dispose]: () => void listeners.delete(listener) };
      },
    };
    await publishing(t, { tellsCa: false, need }, async (bench) => {
      bench.certificates.set(certificate, "one");
      await bench.becomes(() => caOf(bench), "one");
      for (const [needed, asked] of [
        [false, "true,false"],
        [true, "true,true"],
      ] as const) {
        isNeeded = needed;
        for (const listener of listeners) listener();
        await bench.becomes(() => askedOf(bench), asked);
      }
      assert.equal(bundlesOf(bench), ",old");
    });
    assert.equal(listeners.size, 0);
  });

  test("tries again when a write is refused", async (t) => {
    await publishing(t, {}, async (bench) => {
      bench.server.fail({ status: 500, times: 2, matching: ({ method }) => method !== "GET" });
      bench.certificates.set(certificate, "one");
      const turn = async (): Promise<void> => bench.clock.advance(1_000);
      while (caOf(bench) !== "one" || bundlesOf(bench) !== "one,one") await turn();
    });
  });
});
