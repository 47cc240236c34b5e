import { setTimeout as sleep } from "node:timers/promises";

import { images } from "#api/v1/resources.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";
import { Cluster } from "#test/cluster.ts";
import { hostileFaults, hostileImage } from "#test/hostile.ts";
import { median, type Bench } from "./result.ts";
import { emptyStore, forgotten, secondsToReady } from "./time-to-ready.ts";

const rounds = 7;
/** The agent hears of the removed image by an event, and must not take it for there. */
const settleMs = 2_000;
/**
 * What the node receives. Faster, and the cores of this one machine decide, which the node has for
 * itself elsewhere: here the API server takes them to store what is reported of 500 names.
 */
const megabitsPerSecond = 100;
const good = { reference: Sandbox.images.large, key: { namespace: "bench", name: "good" } };
const bad = { namespace: "hostile", name: "bad" };

/**
 * One image of 66 MB on one node, until its Image's status says Ready: alone, and beside a hostile
 * Image of another namespace with 500 bad names at the same registry, whose pulls hang in every slot
 * that it may have. In turn, each from an empty store.
 */
export const hostile: Bench = async ({ report, signal }) => {
  const scope = { signal };
  await using sandbox = await Sandbox.start({ nodes: 1, report, signal });
  const node = sandbox.node("node1");
  await installCoral(sandbox, scope);
  for (const { namespace } of [good.key, bad]) {
    await sandbox.kubectl(["create", "namespace", namespace], scope);
  }
  await node.limitRate(megabitsPerSecond, scope);
  await using client = await sandbox.connect();
  const cluster = new Cluster(sandbox, client);
  await sandbox.upstream.setFaults(hostileFaults, scope);
  const alone: number[] = [];
  const beside: number[] = [];
  await measure(); // The first is not like the others: the page cache is cold.
  for (let round = 1; round <= rounds; round++) {
    alone.push(await measure());
    beside.push(await measureBeside());
    const [a, b] = [alone, beside].map((seconds) => seconds.at(-1)?.toFixed(2));
    report(`round ${round}: alone ${a} s, beside the hostile one ${b} s`);
  }
  const [aloneSeconds, besideSeconds] = [median(alone), median(beside)];
  return {
    figures: { rounds, megabitsPerSecond, aloneSeconds, besideSeconds },
    checks: [
      {
        name: "good-image-vs-alone",
        value: besideSeconds / aloneSeconds,
        target: 1.2,
        better: "lower",
      },
    ],
  };

  async function measure(): Promise<number> {
    await emptyStore(node, good.reference, scope);
    await sleep(settleMs, undefined, scope);
    return secondsToReady(client, node, { ...good, signal });
  }

  async function measureBeside(): Promise<number> {
    await sandbox.upstream.forgetRequests(scope);
    await cluster.apply(hostileImage(bad), scope);
    await waitFor(
      async () => {
        const requests = await sandbox.upstream.requests(scope);
        const hung = requests.filter(({ fault }) => fault === "silence");
        return hung.filter(({ from }) => from === node.layout.address).length >= 2;
      },
      { what: "the hostile Image's pulls to hang", timeoutMs: 120_000, everyMs: 200, signal },
    );
    const seconds = await measure();
    await client.delete(images, bad, scope);
    await forgotten(client, node, "/hostile/", scope);
    return seconds;
  }
};
