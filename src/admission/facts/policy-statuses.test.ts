import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import type { ImagePolicy } from "#api/v1/image-policy.ts";
import { imagePolicies } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { KubeClient } from "#kube/client.ts";
import { namespaces } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { aPolicy } from "#test/pod-facts.ts";
import { admissionCaches } from "./caches.ts";
import { PolicyStatuses } from "./policy-statuses.ts";

/** Whether the API server always pulls, as a test says. */
class Plugin {
  alwaysPulls = false;
  readonly #listeners = new Set<() => void>();

  onAlwaysPulls(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  switchOn(): void {
    this.alwaysPulls = true;
    for (const listener of this.#listeners) listener();
  }
}

interface Scene {
  readonly server: FakeApiServer;
  readonly plugin: Plugin;
  /** Waits until the API server has a policy that is so. */
  readonly become: (name: string, isSo: (policy: ImagePolicy) => boolean) => Promise<void>;
  /** How often a status was written. */
  readonly writes: () => number;
}

/** Leads while a scene is played. */
async function leading(
  { signal }: { signal: AbortSignal },
  server: FakeApiServer,
  play: (scene: Scene) => Promise<void>,
): Promise<void> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(20_000)]);
  await using client = new KubeClient({ config: server.config, log: silentLog, userAgent: "t/1" });
  const common = { client, clock: systemClock, log: silentLog };
  const { policies } = admissionCaches(common);
  const plugin = new Plugin();
  const metrics = new Registry();
  const facts = plugin;
  const statuses = new PolicyStatuses({ ...common, policies, facts, random: Math.random, metrics });
  const stop = new AbortController();
  const group = new TaskGroup(stop.signal);
  const running = [group.run((scope) => policies.run(scope))];
  await policies.synced({ signal: limited });
  running.push(group.run((scope) => statuses.lead(scope)));
  try {
    await play({
      server,
      plugin,
      async become(name, isSo) {
        while (!isSo(imagePolicies.parse(server.get(imagePolicies, name)))) {
          limited.throwIfAborted();
          await setImmediate();
        }
      },
      writes: () => server.requests.filter(({ method }) => method === "PUT").length,
    });
  } finally {
    stop.abort();
    await Promise.allSettled(running);
  }
}

function has(type: string, status: string): (policy: ImagePolicy) => boolean {
  return (policy) =>
    policy.status?.conditions?.some((each) => each.type === type && each.status === status) ??
    false;
}

function startServer(): Promise<FakeApiServer> {
  return FakeApiServer.start({ resources: [imagePolicies, namespaces] });
}

describe("PolicyStatuses", () => {
  test("tells of every policy whether it works, and keeps what it does not know", async (t) => {
    await using server = await startServer();
    const annotations = { note: "ours" };
    server.create(imagePolicies, aPolicy("good", {}, { annotations }));
    server.create(imagePolicies, aPolicy("bad", { minNodes: "0%" }));
    await leading(t, server, async ({ become, writes }) => {
      await become("good", has("Ready", "True"));
      await become("bad", has("Ready", "False"));
      const { metadata } = imagePolicies.parse(server.get(imagePolicies, "good"));
      assert.deepEqual(metadata.annotations, annotations);
      assert.equal(writes(), 2);
    });
  });

  test("follows a policy that is mended, and writes nothing else", async (t) => {
    await using server = await startServer();
    server.create(imagePolicies, aPolicy("p", { minNodes: "0%" }));
    await leading(t, server, async ({ become, writes }) => {
      await become("p", has("Ready", "False"));
      server.merge(imagePolicies, "p", { spec: { minNodes: "10%" } });
      await become("p", ({ metadata, status }) => {
        const isSeen = status?.observedGeneration === metadata.generation;
        return isSeen && metadata.generation === 2;
      });
      await become("p", has("Ready", "True"));
      assert.equal(writes(), 2);
    });
  });

  test("tells of each policy that it cannot set pull policies, once that is known", async (t) => {
    await using server = await startServer();
    server.create(imagePolicies, aPolicy("pulls", { pullPolicy: "Never" }));
    server.create(imagePolicies, aPolicy("other"));
    await leading(t, server, async ({ plugin, become, writes }) => {
      await become("pulls", has("Ready", "True"));
      await become("other", has("Ready", "True"));
      plugin.switchOn();
      await become("pulls", has("PullPoliciesIgnored", "True"));
      assert.equal(writes(), 3);
    });
  });

  test("writes nothing when the next one leads", async (t) => {
    await using server = await startServer();
    server.create(imagePolicies, aPolicy("p"));
    await leading(t, server, async ({ become }) => become("p", has("Ready", "True")));
    server.requests.length = 0;
    await leading(t, server, async ({ become, writes }) => {
      server.create(imagePolicies, aPolicy("q"));
      await become("q", has("Ready", "True"));
      assert.equal(writes(), 1);
    });
  });
});
