/** A run that waits for its turn. */
export interface QueuedRun {
  /** Of the shard. */
  readonly key: string;
  readonly namespace: string;
  readonly mirror: string;
  /** The registry that is copied from. */
  readonly host: string;
}

/** A run that is under way. */
export interface RunningRun extends QueuedRun {
  /** Whether it only waits until a registry wants to be asked again. */
  readonly isHeld: boolean;
}

/** How things stand when a turn is given. */
export interface Turn {
  readonly running: readonly RunningRun[];
  /** How many runs may be under way, without those that are held. */
  readonly slots: number;
}

/** The runs of one Mirror from one registry, in the order they came. */
interface Line {
  readonly mirror: string;
  readonly host: string;
  readonly runs: Map<string, QueuedRun>;
}

/**
 * Keeps the runs that wait, and gives turns to namespaces, and among these to Mirrors, one after the other.
 *
 * A namespace never takes more than half of the slots that others leave free, and a Mirror half of that: who
 * has thousands of shards, or slow ones, leaves something to each who comes later. A run that is held by its
 * registry takes no slot; but no other of its Mirror then begins to ask that registry, with the same logins.
 * Nor has a namespace more of them held by one registry than there are slots.
 */
export class RunQueue {
  /** Of each namespace, by what tells lines apart. Who had a turn is last. */
  readonly #namespaces = new Map<string, Map<string, Line>>();
  readonly #waiting = new Map<string, QueuedRun>();

  get size(): number {
    return this.#waiting.size;
  }

  /** Has a run wait. One that waits already keeps its place. */
  put(run: QueuedRun): void {
    const { key, namespace, mirror, host } = run;
    const known = this.#waiting.get(key);
    if (known?.mirror === mirror && known.host === host) return;
    this.delete(key);
    this.#waiting.set(key, run);
    const lines = this.#namespaces.get(namespace) ?? new Map<string, Line>();
    const line = lines.get(lineOf(run)) ?? { mirror, host, runs: new Map<string, QueuedRun>() };
    line.runs.set(key, run);
    lines.set(lineOf(run), line);
    this.#namespaces.set(namespace, lines);
  }

  /** Has a run wait no more. */
  delete(key: string): void {
    const run = this.#waiting.get(key);
    if (!run) return;
    this.#waiting.delete(key);
    const lines = this.#namespaces.get(run.namespace);
    const runs = lines?.get(lineOf(run))?.runs;
    runs?.delete(key);
    if (runs?.size === 0) lines?.delete(lineOf(run));
    if (lines?.size === 0) this.#namespaces.delete(run.namespace);
  }

  /** Takes out the run that is next; `undefined` if none may begin. */
  take({ running, slots }: Turn): QueuedRun | undefined {
    const counted = running.filter(({ isHeld }) => !isHeld);
    const free = slots - counted.length;
    if (free <= 0) return undefined;
    const held = running.filter(({ isHeld }) => isHeld);
    for (const [namespace, lines] of this.#namespaces) {
      const ofNamespace = counted.filter((run) => run.namespace === namespace);
      const room = roomFor(ofNamespace.length, free);
      if (room === 0) continue;
      const heldHere = held.filter((run) => run.namespace === namespace);
      const heldLines = new Set(heldHere.map(lineOf));
      for (const [name, { mirror, host, runs }] of lines) {
        if (heldLines.has(name)) continue;
        if (heldHere.filter((run) => run.host === host).length >= slots) continue;
        if (ofNamespace.filter((run) => run.mirror === mirror).length >= room) continue;
        const [next] = runs.values();
        if (next) return this.#takeOut(next);
      }
    }
    return undefined;
  }

  #takeOut(run: QueuedRun): QueuedRun {
    const { key, namespace } = run;
    const lines = this.#namespaces.get(namespace);
    const line = lines?.get(lineOf(run));
    this.delete(key);
    if (lines && line && line.runs.size > 0) moveToEnd(lines, lineOf(run), line);
    if (lines && lines.size > 0) moveToEnd(this.#namespaces, namespace, lines);
    return run;
  }
}

/** How many more may begin of those who have so many, if they are to have half of what others leave. */
function roomFor(running: number, free: number): number {
  return Math.max(0, Math.ceil((free - running) / 2));
}

function lineOf({ mirror, host }: Pick<QueuedRun, "mirror" | "host">): string {
  return `${mirror} ${host}`;
}

function moveToEnd<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
}
