import { fullJitter } from "#async/backoff.ts";
import type { Clock } from "#async/clock.ts";
import type { KubeClient } from "#kube/client.ts";
import { metadataOf, namespaces } from "#kube/resource.ts";
import type { Log } from "#telemetry/log.ts";

const backoff = { minMs: 500, maxMs: 30_000 };

/**
 * Reads what tells this cluster from every other: the uid of its namespace `kube-system`. It tries until it
 * succeeds.
 *
 * @throws only the signal's reason.
 */
export async function readClusterId({
  client,
  clock,
  random,
  log,
  signal,
}: {
  client: Pick<KubeClient, "get">;
  clock: Clock;
  random: () => number;
  log: Log;
  signal: AbortSignal;
}): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    try {
      const namespace = await client.get(
        metadataOf(namespaces),
        { name: "kube-system" },
        { signal },
      );
      const uid = namespace?.metadata.uid;
      if (uid !== undefined && uid !== "") return uid;
      log.warn("the namespace kube-system is not there: Mirrors wait", { attempt });
    } catch (error) {
      signal.throwIfAborted();
      log.warn("cannot read the namespace kube-system: Mirrors wait", { attempt, error });
    }
    await clock.sleep(fullJitter(attempt, { ...backoff, random }), { signal });
  }
}
