import assert from "node:assert/strict";
import { once } from "node:events";
import { get } from "node:https";
import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { router } from "#http/router.ts";
import { serveTls, type Serving } from "#http/serve.ts";
import { KubeClient } from "#kube/client.ts";
import { formatKey } from "#kube/key.ts";
import { configMaps, secrets, validatingWebhookConfigurations } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { publishCa } from "./ca-publisher.ts";
import { SecretCertificates, serviceNames } from "./certificates.ts";
import { issueAuthority, issueServing } from "./issue.ts";
import { readTlsSecret } from "./tls-state.ts";

const namespace = "coral-system";
const dnsNames = serviceNames("coral-controller", namespace);
const key = { namespace, name: "coral-tls" };
const dayMs = 86_400_000;

interface Bench {
  readonly server: FakeApiServer;
  readonly client: KubeClient;
  readonly clock: ManualClock;
  readonly signal: AbortSignal;
}

/** Runs a scene against an API server that holds the webhook configuration of the manifests. */
async function scene(
  { signal: testSignal }: { signal: AbortSignal },
  play: (bench: Bench) => Promise<void>,
): Promise<void> {
  await using server = await FakeApiServer.start({
    resources: [secrets, configMaps, validatingWebhookConfigurations],
  });
  const userAgent = "coral-controller/0";
  await using client = new KubeClient({ config: server.config, log: silentLog, userAgent });
  server.create(validatingWebhookConfigurations, {
    metadata: { name: "coral-validation" },
    webhooks: ["images.stvz.io", "other.stvz.io"].map((name) => ({
      name,
      clientConfig: { service: { namespace, name: "coral-controller" } },
    })),
  });
  const stop = new AbortController();
  const signal = AbortSignal.any([testSignal, AbortSignal.timeout(30_000), stop.signal]);
  try {
    await play({ server, client, clock: new ManualClock(new Date()), signal });
  } finally {
    stop.abort();
  }
}

async function until(isSo: () => boolean, { signal }: { signal: AbortSignal }): Promise<void> {
  while (!isSo()) {
    signal.throwIfAborted();
    await setImmediate();
  }
}

function replica({ client, clock }: Bench): SecretCertificates {
  return new SecretCertificates({
    ...key,
    client,
    clock,
    dnsNames,
    random: () => 0,
    log: silentLog,
  });
}

function publish(
  { client, clock, signal }: Bench,
  certificates: SecretCertificates,
): Promise<void> {
  const resource = validatingWebhookConfigurations;
  const webhooks = {
    configurations: [{ resource, name: "coral-validation" }],
    tellsCa: true,
    need: { isNeeded: () => undefined, onChange: () => ({ [Symbol.dispose]() {} }) },
  };
  const names = { namespace, configMap: "coral-ca", webhooks };
  return publishCa({ ...names, client, clock, certificates, log: silentLog }, signal);
}

/** What the webhooks and the ConfigMap say of the authorities, in PEM. */
function published({ server }: Bench): (string | undefined)[] {
  const hooks = server.get(validatingWebhookConfigurations, "coral-validation");
  const map = server.get(configMaps, `${namespace}/coral-ca`);
  return [
    ...(hooks ? (validatingWebhookConfigurations.parse(hooks).webhooks ?? []) : []).map(
      ({ clientConfig: { caBundle = "" } }) => Buffer.from(caBundle, "base64").toString(),
    ),
    map && configMaps.parse(map).data?.["ca.crt"],
  ];
}

function writes({ server }: Bench): string[] {
  return server.requests
    .filter(({ method }) => method !== "GET")
    .map(({ method, path }) => `${method} ${path}`);
}

async function ask({ port }: Serving, ca: string): Promise<string> {
  const [servername] = dnsNames;
  const request = get({ port, host: "127.0.0.1", servername, ca, agent: false });
  const [response]: IncomingMessage[] = await once(request, "response");
  assert.ok(response);
  return text(response);
}

const hello = router({ "/": () => ({ body: "hello\n" }) }, silentLog);
const local = { port: 0, host: "127.0.0.1" };

describe("SecretCertificates", () => {
  test("two replicas that start at once serve one certificate", async (t) => {
    await scene(t, async (bench) => {
      const both = [replica(bench), replica(bench)];
      for (const each of both) void each.run(bench.signal);
      await until(() => both.every((each) => each.current() !== undefined), bench);
      await bench.clock.advance(10_000);
      await until(() => both[0]?.current()?.cert === both[1]?.current()?.cert, bench);

      const stored = secrets.parse(bench.server.get(secrets, formatKey(key)));
      assert.equal(stored.type, "kubernetes.io/tls");
      assert.equal(readTlsSecret(stored).serving?.cert, both[0]?.current()?.cert);
    });
  });

  test("is silent when nothing changes, for weeks", async (t) => {
    await scene(t, async (bench) => {
      const certificates = replica(bench);
      void certificates.run(bench.signal);
      void publish(bench, certificates);
      await until(() => published(bench).every((ca) => ca && ca === certificates.ca()), bench);
      await bench.clock.advance(10_000);
      bench.server.requests.length = 0;
      for (let day = 0; day < 40; day++) await bench.clock.advance(dayMs);

      assert.deepEqual(writes(bench), []);
      assert.deepEqual(
        bench.server.requests.filter(({ query }) => query["watch"] !== "true"),
        [],
      );
    });
  });

  test("makes a Secret anew that was deleted or spoiled, and serves it", async (t) => {
    await scene(t, async (bench) => {
      const certificates = replica(bench);
      await using server = await serveTls(hello, { ...local, certificates });
      void certificates.run(bench.signal);
      void publish(bench, certificates);
      await until(() => published(bench).every((ca) => ca && ca === certificates.ca()), bench);
      const first = certificates.ca() ?? "";
      assert.equal(await ask(server, first), "hello\n");
      await bench.client.delete(secrets, key, bench);
      await until(() => certificates.ca() !== first, bench);

      const second = certificates.ca() ?? "";
      assert.equal(await ask(server, second), "hello\n");
      await assert.rejects(ask(server, first), "the old authority's key may be known");
      await until(() => published(bench).every((ca) => ca === second), bench);
      bench.server.merge(secrets, formatKey(key), { data: { "tls.key": "Z2FyYmFnZQ==" } });
      const { cert } = certificates.current() ?? {};
      await until(() => certificates.current()?.cert !== cert, bench);
      assert.equal(certificates.ca(), second);
      assert.equal(await ask(server, second), "hello\n");
    });
  });

  test("rotates with an overlap: a client of the old bundle is served further", async (t) => {
    await scene(t, async (bench) => {
      const old = aged();
      bench.server.create(secrets, { metadata: key, data: old.data });
      const certificates = replica(bench);
      await using server = await serveTls(hello, { ...local, certificates });
      void certificates.run(bench.signal);
      await until(() => certificates.ca()?.endsWith(old.ca) === true, bench);
      await until(() => certificates.ca() !== old.ca, bench);

      const bundle = certificates.ca() ?? "";
      assert.equal(await ask(server, old.ca), "hello\n");
      assert.equal(await ask(server, bundle), "hello\n");

      const { cert } = certificates.current() ?? {};
      bench.server.merge(secrets, formatKey(key), { data: { "tls.crt": "" } });
      await until(() => certificates.current()?.cert !== cert, bench);
      assert.equal(await ask(server, bundle), "hello\n", "signed by the new authority");
      await assert.rejects(ask(server, old.ca));
    });
  });
});

/** Certificates of an authority that has a third of its time left. */
function aged(): { data: Record<string, string>; ca: string } {
  const now = Date.now();
  const days = (count: number): Date => new Date(now + count * dayMs);
  const authority = issueAuthority({ notBefore: days(-500), notAfter: days(230) });
  const validity = { notBefore: days(-10), notAfter: days(80) };
  const serving = issueServing(authority, { ...validity, dnsNames });
  const data = {
    "tls.crt": btoa(serving.cert),
    "tls.key": btoa(serving.key),
    "ca.crt": btoa(authority.cert),
    "ca.key": btoa(authority.key),
  };
  return { data, ca: authority.cert };
}
