import { parseArgs } from "node:util";

/** How large the cluster is, and what it is asked for. */
export interface ScaleOptions {
  /** Simulated nodes. */
  nodes: number;
  /** Images, the objects. */
  images: number;
  /** References in each of them. */
  tags: number;
  /** Processes that the agents are spread over. */
  processes: number;
  /** Mean time of a pull, in milliseconds: two cores have to do the agents' work and the API server's. */
  pullMs: number;
  /** How long is measured idle, in seconds. */
  idleSeconds: number;
  /** Images that each Node tells of itself, as a kubelet's does: up to 50. */
  nodeImages: number;
  /** Whether a pull secret is changed at the end: 1 or 0. */
  rotations: number;
}

/** As the target is put: 1,000 nodes with 100 images each. */
const defaults: Readonly<ScaleOptions> = {
  nodes: 1_000,
  images: 20,
  tags: 5,
  processes: 4,
  pullMs: 8_000,
  idleSeconds: 120,
  nodeImages: 0,
  rotations: 1,
};

const bounds: Readonly<Record<keyof ScaleOptions, readonly [number, number]>> = {
  nodes: [1, 10_000],
  images: [1, 500],
  tags: [1, 200],
  processes: [1, 64],
  pullMs: [1, 600_000],
  idleSeconds: [1, 3_600],
  nodeImages: [0, 50],
  rotations: [0, 1],
};

/** Names as flags, `--pull-ms`, and with the prefix `CORAL_BENCH_` in the environment. */
const flags: Readonly<Record<keyof ScaleOptions, string>> = {
  nodes: "nodes",
  images: "images",
  tags: "tags",
  processes: "processes",
  pullMs: "pull-ms",
  idleSeconds: "idle-seconds",
  nodeImages: "node-images",
  rotations: "rotations",
};

/**
 * Reads the size of a run from its arguments, else from the environment: `--nodes 50` or
 * `CORAL_BENCH_NODES=50`.
 *
 * @throws {RangeError} naming the flag, its value and what it must be.
 */
export function readOptions(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ScaleOptions {
  const names = Object.values(flags);
  const { values } = parseArgs({
    args: [...args],
    options: Object.fromEntries(names.map((name) => [name, { type: "string" } as const])),
  });
  const read = (option: keyof ScaleOptions): number => {
    const flag = flags[option];
    const text = values[flag] ?? env[`CORAL_BENCH_${flag.replace("-", "_").toUpperCase()}`];
    if (text === undefined) return defaults[option];
    const [least, most] = bounds[option];
    const number = Number(text);
    if (!Number.isInteger(number) || number < least || number > most) {
      throw new RangeError(`--${flag}="${text}" must be a whole number from ${least} to ${most}`);
    }
    return number;
  };
  return {
    nodes: read("nodes"),
    images: read("images"),
    tags: read("tags"),
    processes: read("processes"),
    pullMs: read("pullMs"),
    idleSeconds: read("idleSeconds"),
    nodeImages: read("nodeImages"),
    rotations: read("rotations"),
  };
}
