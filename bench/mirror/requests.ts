/** A request as a registry gets it. */
export interface CountedRequest {
  readonly method: string;
  readonly path: string;
}

/** How many requests of each method there are, by method. */
export function countByMethod(requests: readonly CountedRequest[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { method } of requests) counts.set(method, (counts.get(method) ?? 0) + 1);
  return new Map([...counts].sort(([a], [b]) => a.localeCompare(b)));
}

/** How many requests read a manifest or a blob; lists of tags and of referrers are neither. */
export function countContentReads(requests: readonly CountedRequest[]): number {
  return requests.filter(
    ({ method, path }) => method === "GET" && /\/(?:manifests|blobs)\//.test(path),
  ).length;
}
