import { hash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";

import { apiGroup, apiVersion } from "#api/v1/group.ts";
import type { MirrorShard, MirrorShardSpec } from "#api/v1/mirror-shard.ts";
import { runAnnotation, type Mirror } from "#api/v1/mirror.ts";
import { formatKey } from "#kube/key.ts";
import type { OwnerReference } from "#kube/types.ts";
import type { Copy } from "./sources.ts";

/** The index of shards by the key of the Mirror that they belong to. */
export const shardsByMirror = "mirror";

/** So that the names of shards can be told apart by a person, and fit into a label. */
const maxPrefixChars = 40;

/** Enough against chance and malice. */
const hashChars = 16;

/** What the schema of a shard has room for. */
const maxRunChars = 256;

type Removals = NonNullable<MirrorShardSpec["removals"]>;

/** What is to be done so that there is one shard for each copy. */
export interface ShardPlan {
  /** Those that are there already, be they up to date or not. */
  readonly kept: readonly MirrorShard[];
  readonly create: readonly MirrorShard[];
  readonly update: readonly { readonly shard: MirrorShard; readonly spec: MirrorShardSpec }[];
  readonly delete: readonly MirrorShard[];
  /** Those of repositories that the Mirror has no more, but copies of which are to be removed first. */
  readonly retired: readonly { readonly shard: MirrorShard; readonly copy: Copy }[];
  /** Sources without a shard, because something else has its name. */
  readonly blocked: readonly string[];
}

export interface ShardFacts {
  readonly mirror: Mirror;
  /** Tells this cluster's copies from another's. */
  readonly cluster: string;
  readonly copies: readonly Copy[];
  /** Shards that belong to a Mirror of this name: to this one, or to one before it. */
  readonly shards: readonly MirrorShard[];
  /** Reads any shard of the namespace. */
  readonly get: (name: string) => MirrorShard | undefined;
  /** Which removals are approved for a shard that is there, and is as it is to be. */
  readonly removalsOf: (copy: Copy, shard: MirrorShard) => Removals;
}

/**
 * Plans the shards of a Mirror. What belongs to an earlier Mirror of its name is removed: the garbage collector
 * would, too, but workers copy until then. What belongs to anybody else stays as it is.
 */
export function planShards(facts: ShardFacts): ShardPlan {
  const { mirror, cluster, copies, shards, get, removalsOf } = facts;
  const kept: MirrorShard[] = [];
  const create: MirrorShard[] = [];
  const update: { shard: MirrorShard; spec: MirrorShardSpec }[] = [];
  const blocked: string[] = [];
  const wanted = new Set<string>();
  const bring = (shard: MirrorShard, spec: MirrorShardSpec, copy: Copy): void => {
    // What was told of another target, say, is no longer what it was.
    const { removals: _before, ...asked } = shard.spec;
    const removals = isDeepStrictEqual(spec, asked) ? removalsOf(copy, shard) : [];
    const full = removals.length > 0 ? { ...spec, removals } : spec;
    if (!isDeepStrictEqual(full, shard.spec)) update.push({ shard, spec: full });
  };
  for (const copy of copies) {
    const spec = shardSpec(mirror, copy, cluster);
    const name = shardName(mirror, copy.source);
    const shard = get(name);
    wanted.add(name);
    if (!shard) {
      create.push(shardObject(mirror, name, spec));
    } else if (isShardOf(shard, mirror)) {
      if (isGoing(shard)) continue; // Its deletion leads here again.
      kept.push(shard);
      bring(shard, spec, copy);
    } else if (mirrorKeyOf(shard) !== formatKey(mirror.metadata)) {
      blocked.push(copy.source);
    }
  }
  const unwanted = shards.filter(
    (shard) => !isGoing(shard) && !(isShardOf(shard, mirror) && wanted.has(shard.metadata.name)),
  );
  const gone = unwanted.filter((shard) => !isShardOf(shard, mirror) || isDone(mirror, shard));
  const retired = unwanted
    .filter((shard) => !gone.includes(shard))
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .map((shard) => ({ shard, copy: copyOf(shard) }));
  for (const { shard, copy } of retired) bring(shard, retiredSpec(mirror, shard), copy);
  return { kept, create, update, delete: gone, retired, blocked };
}

/** Whether nothing is left to be done for a repository that a Mirror has no more. */
function isDone(
  { spec: { removalPolicy } }: Mirror,
  { metadata, spec, status }: MirrorShard,
): boolean {
  if (removalPolicy !== "Delete" || !status) return true;
  const isSeen = spec.retired === true && status.observedGeneration === metadata.generation;
  const { removable = 0, deleteUnsupported = false, failure } = status;
  return deleteUnsupported || (isSeen && removable === 0 && !failure);
}

/** What the shard of a repository asks for that a Mirror has no more. It keeps how to get at its target. */
function retiredSpec(
  { spec: { gracePeriod, suspend } }: Mirror,
  { spec }: MirrorShard,
): MirrorShardSpec {
  const { removals: _removals, ...asked } = spec;
  return { ...asked, gracePeriod, suspend, retired: true };
}

/** A copy of nothing: what is judged of a repository that a Mirror has no more. */
function copyOf({ spec: { source, target } }: MirrorShard): Copy {
  return {
    source,
    target,
    repository: { name: source, tags: [], digests: [], listSelection: "listed" },
  };
}

/** The name of a shard: of the Mirror's, and of a hash that tells its sources apart. */
export function shardName({ metadata: { name } }: Mirror, source: string): string {
  const prefix = name.slice(0, maxPrefixChars).replace(/[^a-z0-9]+$/, "");
  const digest = hash("sha256", JSON.stringify([name, source])).slice(0, hashChars);
  return `${prefix}-${digest}`;
}

/** Whether a shard belongs to this very Mirror, and not to an earlier one of its name. */
export function isShardOf(shard: MirrorShard, { metadata }: Mirror): boolean {
  return metadata.uid !== undefined && controllerOf(shard)?.uid === metadata.uid;
}

/**
 * Names the Mirror that a shard belongs to, as `formatKey` does; `undefined` if it belongs to none. One that has
 * lost its owner, by `--cascade=orphan` or a restored backup, is still its Mirror's to remove: workers go by it.
 */
export function mirrorKeyOf(shard: MirrorShard): string | undefined {
  const owner = controllerOf(shard);
  if (!owner) return formatKey({ ...shard.metadata, name: shard.spec.mirror });
  if (owner.kind !== "Mirror" || !owner.apiVersion.startsWith(`${apiGroup}/`)) return undefined;
  return formatKey({ ...shard.metadata, name: owner.name });
}

function isGoing({ metadata }: MirrorShard): boolean {
  return metadata.deletionTimestamp !== undefined;
}

function controllerOf({ metadata }: MirrorShard): OwnerReference | undefined {
  return metadata.ownerReferences?.find(({ controller }) => controller === true);
}

function shardObject(mirror: Mirror, name: string, spec: MirrorShardSpec): MirrorShard {
  const { namespace = "", name: owner, uid = "" } = mirror.metadata;
  const ownerReference: OwnerReference = {
    apiVersion: `${apiGroup}/${apiVersion}`,
    kind: "Mirror",
    name: owner,
    uid,
    controller: true,
    blockOwnerDeletion: false,
  };
  return { metadata: { name, namespace, ownerReferences: [ownerReference] }, spec };
}

/** What a shard asks for, without approved removals. */
export function shardSpec(
  { metadata, spec }: Mirror,
  { source, target, repository }: Copy,
  cluster: string,
): MirrorShardSpec {
  const { name: _name, ...selection } = repository;
  const { platforms, tls, pushSecret, interval, schedule, timeZone } = spec;
  const run = metadata.annotations?.[runAnnotation];
  return {
    mirror: metadata.name,
    cluster,
    source,
    target,
    ...selection,
    ...(platforms && { platforms }),
    referrers: spec.referrers,
    ...(tls && { tls }),
    ...(pushSecret && { pushSecret }),
    imagePullSecrets: spec.imagePullSecrets,
    ...(interval !== undefined && { interval }),
    ...(schedule !== undefined && { schedule }),
    ...(timeZone !== undefined && { timeZone }),
    gracePeriod: spec.gracePeriod,
    suspend: spec.suspend,
    ...(run !== undefined && { run: shortened(run) }),
  };
}

/** An annotation may be as long as it likes; all that matters is whether it is another one. */
function shortened(run: string): string {
  return run.length <= maxRunChars ? run : hash("sha256", run);
}
