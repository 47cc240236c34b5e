/** A pull that waits for its turn. */
export interface PullRequest {
  readonly reference: string;
  /** The registry it comes from. */
  readonly host: string;
  /** Who wants it. Never empty. */
  readonly namespaces: readonly string[];
  /** Orders the pulls of one namespace, highest first. */
  readonly priority: number;
  /** Whether it was pulled before, and did not bring what it should. */
  readonly isRetry: boolean;
  /** When it may begin, in milliseconds since 1970. */
  readonly dueMs: number;
}

/** A pull that runs, and the namespace whose turn it took. */
export interface RunningPull {
  readonly reference: string;
  readonly host: string;
  readonly namespace: string;
  readonly isRetry: boolean;
}

/** How things stand when a turn is given. */
export interface Turn {
  readonly running: readonly RunningPull[];
  readonly concurrency: number;
  /** When each namespace last had a turn, as a number that grows. */
  readonly lastTurns: ReadonlyMap<string, number>;
  readonly nowMs: number;
}

/**
 * Chooses the next pull, and whose turn it is.
 *
 * Namespaces share the slots: the one with the fewest running pulls is next, then the one that has
 * waited longest. Within a namespace, priority decides, then what has not failed before, then who
 * is due longest. A namespace never holds all slots, and retries never take the last one, so that
 * names that hang until their time is over keep no image of another namespace waiting. Of the slots
 * for retries, too, a namespace leaves one to others. For the same reason a registry holds no more
 * than half of the slots; but a namespace that has none may take one beyond that half, as long as one
 * is left for other registries: whoever has its names hang at a registry shuts nobody else out of it.
 *
 * All of this takes three slots. With two, retries have one, and so has each registry: a name that
 * hangs there keeps others' retries, and others' images of its registry, waiting until its time is
 * over. With one, it keeps everything waiting.
 */
export function nextPull(
  waiting: Iterable<PullRequest>,
  { running, concurrency, lastTurns, nowMs }: Turn,
): { request: PullRequest; namespace: string } | undefined {
  if (running.length >= concurrency) return undefined;
  const mayRetry = running.filter(({ isRetry }) => isRetry).length < Math.max(1, concurrency - 1);
  const pulling = new Set(running.map(({ reference }) => reference));
  const shares = countBy(running, ({ namespace }) => namespace);
  const hosts = countBy(running, ({ host }) => host);
  const byTurn = (a: string, b: string): number =>
    (shares.get(a) ?? 0) - (shares.get(b) ?? 0) ||
    (lastTurns.get(a) ?? 0) - (lastTurns.get(b) ?? 0) ||
    compare(a, b);

  const retries = countBy(
    running.filter(({ isRetry }) => isRetry),
    ({ namespace }) => namespace,
  );
  const mostOfOne = Math.max(1, concurrency - 1);
  const mostRetriesOfOne = Math.max(1, concurrency - 2);
  const mostOfHost = Math.max(1, Math.floor(concurrency / 2));
  let best: { request: PullRequest; namespace: string } | undefined;
  for (const request of waiting) {
    if (request.dueMs > nowMs || pulling.has(request.reference)) continue;
    if (request.isRetry && !mayRetry) continue;
    const ofHost = hosts.get(request.host) ?? 0;
    for (const namespace of request.namespaces) {
      const share = shares.get(namespace) ?? 0;
      if (share >= mostOfOne || ofHost >= (share === 0 ? mostOfOne : mostOfHost)) continue;
      if (request.isRetry && (retries.get(namespace) ?? 0) >= mostRetriesOfOne) continue;
      const order = best
        ? byTurn(namespace, best.namespace) || byUrgency(request, best.request)
        : -1;
      if (order < 0) best = { request, namespace };
    }
  }
  return best;
}

function countBy<T>(items: readonly T[], nameOf: (item: T) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(nameOf(item), (counts.get(nameOf(item)) ?? 0) + 1);
  return counts;
}

function byUrgency(a: PullRequest, b: PullRequest): number {
  return (
    b.priority - a.priority ||
    Number(a.isRetry) - Number(b.isRetry) ||
    a.dueMs - b.dueMs ||
    compare(a.reference, b.reference)
  );
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
