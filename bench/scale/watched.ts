import type { KubeClient } from "#kube/client.ts";

/**
 * Reads how many bytes the API server has sent so far on all watches of one of Coral's kinds, whoever
 * watches: its own count (`apiserver_watch_events_sizes`).
 */
export async function watchedBytes(
  client: Pick<KubeClient, "request">,
  resource: string,
  { signal }: { signal: AbortSignal },
): Promise<number> {
  const { status, body } = await client.request({ method: "GET", path: "/metrics", signal });
  if (status !== 200 || typeof body !== "string") {
    throw new Error(`The API server does not tell its metrics: ${status}`);
  }
  return parseWatchedBytes(body, resource);
}

/** Adds up what a page of metrics says of a resource of the group `stvz.io`, in bytes. */
export function parseWatchedBytes(text: string, resource: string): number {
  const sums = text.matchAll(/^apiserver_watch_events_sizes_sum\{([^}]*)\} (\S+)$/gm);
  let bytes = 0;
  for (const [, labels = "", value] of sums) {
    const isWanted = ['group="stvz.io"', `resource="${resource}"`].every((label) =>
      labels.split(",").includes(label),
    );
    if (isWanted) bytes += Number(value);
  }
  return bytes;
}
