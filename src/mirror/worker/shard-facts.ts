import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import type { QueuedRun } from "./run-queue.ts";

/** Drops what no worker reads of a shard. What is written is its status alone. */
export function slimShard({ metadata, spec, status }: MirrorShard): MirrorShard {
  const { name, namespace, uid, resourceVersion, generation, deletionTimestamp } = metadata;
  return {
    metadata: {
      name,
      ...(namespace !== undefined && { namespace }),
      ...(uid !== undefined && { uid }),
      ...(resourceVersion !== undefined && { resourceVersion }),
      ...(generation !== undefined && { generation }),
      ...(deletionTimestamp !== undefined && { deletionTimestamp }),
    },
    spec,
    ...(status && { status }),
  };
}

/** Names the Secrets that a shard is done with. */
export function secretNames({ spec }: MirrorShard): string[] {
  const { imagePullSecrets, pushSecret, tls } = spec;
  return [...imagePullSecrets, pushSecret, tls?.caSecret].flatMap((secret) => secret?.name ?? []);
}

/** Says by what turns are given to a shard. @param key - of the shard. */
export function queuedRun(key: string, { metadata, spec }: MirrorShard): QueuedRun {
  const { namespace = "" } = metadata;
  const [host = ""] = spec.source.split("/");
  return { key, namespace, mirror: spec.mirror, host };
}

/** Whether the last run found all as it should be. */
export function isWell({ status }: MirrorShard): boolean {
  const { failed = 0, throttled = 0, failure, secretProblems } = status ?? {};
  return failed + throttled === 0 && !failure && !secretProblems;
}

export function isOtherGeneration(a: MirrorShard, b: MirrorShard): boolean {
  return a.metadata.generation !== b.metadata.generation;
}

/** Writes what registries are asked for: not whether they are asked now, nor what may be removed. */
export function wishOf({ spec }: MirrorShard): string {
  return JSON.stringify({ ...spec, run: undefined, removals: undefined });
}

/**
 * Whether a run may go on though its shard has changed: registries are asked for the same, and all that could be
 * removed still may. Being asked for once more, or being told of more that may be removed, is for the next run.
 */
export function mayGoOn(begun: MirrorShard, current: MirrorShard): boolean {
  if (wishOf(begun) !== wishOf(current)) return false;
  const allowed = new Map(current.spec.removals?.map(({ tag, digest }) => [tag, digest]));
  return (begun.spec.removals ?? []).every(({ tag, digest }) => allowed.get(tag) === digest);
}
