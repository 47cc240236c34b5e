import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { openRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";
import { Cluster } from "#test/cluster.ts";

const report = (line: string): void => console.error(line);

const nodeCount = 20;
const bound = 4;

/** How soon the slot of an agent that died is given to another. */
const freeWithinMs = 60_000;

/** A pull by one node, as its registry saw it. */
interface Visit {
  readonly startMs: number;
  readonly endMs: number;
}

describe("a bound on the nodes that pull at once", { timeout: 20 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  const reference = `${openRegistry.host}/e2e/bounded:1`;
  let sandbox: Sandbox;
  let cluster: Cluster;

  before(async () => {
    sandbox = await Sandbox.start({ nodes: nodeCount, report, signal });
    await installCoral(sandbox, scope);
    cluster = new Cluster(sandbox, await sandbox.connect());
    await sandbox.push(await ensureSmallVariant(40, sandbox.programs, scope), reference, scope);
  });
  after(async () => {
    await cluster.client[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });

  test("holds at the registry for twenty agents, one of which dies with a slot in its hands", async () => {
    await sandbox.upstream.setFaults(
      // A layer takes longer than a slot of the dead is held, and yet does not pass for stalled.
      [{ kind: "slow", bytesPerSecond: 25_000, path: "/blobs/" }],
      scope,
    );
    await sandbox.upstream.forgetRequests(scope);
    await cluster.want("bounded", [reference], { maxConcurrentNodes: bound, ...scope });
    await waitFor(async () => (await downloading()).size === bound, {
      what: `${bound} nodes to pull`,
      timeoutMs: 180_000, // A controller that has just begun to lead gives no slot for 40 s.
      signal,
    });

    const addresses = await downloading();
    const victim = sandbox.nodes.find(({ layout }) => addresses.has(layout.address));
    assert.ok(victim);
    await victim.kill("kubelet", scope); // Else it would start the agent again.
    await cluster.killAgent(victim, scope);
    await waitFor(
      async () => {
        const now = await downloading();
        const others = [...addresses].filter((address) => address !== victim.layout.address);
        assert.ok(
          others.every((address) => now.has(address)),
          "nobody else has given a slot back",
        );
        return !now.has(victim.layout.address) && now.size === bound;
      },
      {
        what: "the slot of the dead to be used by another node",
        timeoutMs: freeWithinMs,
        everyMs: 200,
        signal,
      },
    );
    await sandbox.upstream.setFaults([], scope);
    await victim.start("kubelet", scope);
    await cluster.ready("bounded", nodeCount, scope);

    const visits = await visitsByNode();
    assert.equal(visits.size, nodeCount);
    assert.equal(mostAtOnce([...visits.values()].flat()), bound);
  });

  /** The addresses of nodes that are being sent a layer. */
  async function downloading(): Promise<Set<string>> {
    const requests = await sandbox.upstream.requests(scope);
    const open = requests.filter(
      ({ path, endTime }) => path.startsWith("/v2/e2e/bounded/blobs/") && endTime === undefined,
    );
    return new Set(open.map(({ from }) => from));
  }

  /**
   * Each node's pulls, from the first request to the end of the last. What comes after a silence of some
   * seconds is another pull: of an agent that died, and came again.
   */
  async function visitsByNode(): Promise<Map<string, Visit[]>> {
    const silenceMs = 5_000;
    const nodes = new Set(sandbox.nodes.map(({ layout }) => layout.address));
    const visits = new Map<string, Visit[]>();
    for (const { from, path, time, endTime = Infinity } of await sandbox.upstream.requests(scope)) {
      if (!nodes.has(from) || !path.startsWith("/v2/e2e/bounded/blobs/")) continue;
      const known = visits.get(from) ?? [];
      const last = known.at(-1);
      if (last && time - last.endMs < silenceMs) {
        known.splice(-1, 1, { startMs: last.startMs, endMs: Math.max(last.endMs, endTime) });
      } else {
        known.push({ startMs: time, endMs: endTime });
      }
      visits.set(from, known);
    }
    return visits;
  }
});

/** The largest number of visits that overlap. One that begins when another ends does not overlap it. */
function mostAtOnce(visits: readonly Visit[]): number {
  const steps = visits
    .flatMap(({ startMs, endMs }) => [
      { atMs: startMs, by: 1 },
      { atMs: endMs, by: -1 },
    ])
    .sort((a, b) => a.atMs - b.atMs || a.by - b.by);
  let now = 0;
  let most = 0;
  for (const { by } of steps) most = Math.max(most, (now += by));
  return most;
}
