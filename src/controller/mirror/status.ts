import { setCondition } from "#api/v1/conditions.ts";
import { maxReferenceLength } from "#api/v1/limits.ts";
import type { MirrorShard, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { maxSamples, type Mirror, type MirrorStatus } from "#api/v1/mirror.ts";
import type { Condition } from "#kube/types.ts";
import { digestPattern } from "#oci/reference.ts";
import type { Verdict } from "./claims.ts";
import type { Totals } from "./totals.ts";

/** A copy that is no longer asked for, as its shard tells of it. */
export type Candidate = NonNullable<MirrorShardStatus["removals"]>[number];

/** What a status is made of. */
export interface MirrorFacts {
  readonly verdict: Verdict;
  /** Those of this Mirror, one for each of its copies, as far as they are there. */
  readonly shards: readonly MirrorShard[];
  /** Those of them that do not ask for what the spec says, since that could not be written yet. */
  readonly outdated: ReadonlySet<MirrorShard>;
  /** Sources without a shard, because something else has its name. */
  readonly blocked: readonly string[];
  /** Why shards could not be written, source by source. */
  readonly unwritten: ReadonlyMap<string, string>;
  readonly totals: Totals;
  /** Who refers to a copy that is no longer asked for. */
  readonly keptBy: (shard: MirrorShard, candidate: Candidate) => string | undefined;
  readonly now: Date;
}

/** A condition without the part that depends on what stood there before. */
type Finding = Pick<Condition, "type" | "status" | "reason" | "message">;

/** A list in a message names so many and counts the rest. */
const maxNamed = 3;

/** The largest number that a count may be. */
const maxCount = 2 ** 31 - 1;

const maxMessageChars = 1_024;

/**
 * Makes a Mirror's status of those of its shards. It keeps what does not change, so that an equal status means
 * that nothing is to be written.
 */
export function statusOf(mirror: Mirror, facts: MirrorFacts): MirrorStatus {
  const { verdict, shards, totals, now } = facts;
  const observedGeneration = mirror.metadata.generation ?? 0;
  const counts = countsOf(shards);
  const lastSyncTime = oldestOf(facts);
  const nextSyncTime = mirror.spec.suspend ? undefined : earliestOf(shards);
  const failures = failuresOf(shards);
  const removable = sum(shards, ({ removable = 0 }) => removable);
  const removals = removable > 0 ? removalsOf(facts) : [];
  return {
    observedGeneration,
    repositories: verdict.copies.length,
    ...counts,
    progress: `${counts.synced}/${counts.tags}`,
    bytesCopied: totals.bytesCopied,
    ...(lastSyncTime !== undefined && { lastSyncTime }),
    ...(nextSyncTime !== undefined && { nextSyncTime }),
    ...(failures.length > 0 && { failures }),
    ...(removable > 0 && { removable }),
    ...(totals.removed > 0 && { removed: Math.min(totals.removed, maxCount) }),
    ...(removals.length > 0 && { removals }),
    conditions: conditionsOf(mirror, facts, counts).reduce<readonly Condition[]>(
      (conditions, finding) => setCondition(conditions, { ...finding, observedGeneration }, now),
      keptConditions(mirror, problemsOf(mirror, facts)),
    ),
  };
}

type Counts = Pick<MirrorStatus, "tags" | "synced" | "pending" | "failed" | "throttled">;

function countsOf(shards: readonly MirrorShard[]): Counts {
  return {
    tags: sum(shards, ({ tags }) => tags),
    synced: sum(shards, ({ synced }) => synced),
    pending: sum(shards, ({ pending }) => pending),
    failed: sum(shards, ({ failed }) => failed),
    throttled: sum(shards, ({ throttled }) => throttled),
  };
}

function sum(shards: readonly MirrorShard[], count: (status: MirrorShardStatus) => number): number {
  const total = shards.reduce((all, { status }) => all + (status ? count(status) : 0), 0);
  return Math.min(total, maxCount);
}

/** Since when all have been looked at; `undefined` while one has not. */
function oldestOf({ verdict, shards }: MirrorFacts): string | undefined {
  const copied = shards.filter(({ spec }) => !spec.retired);
  const times = copied.flatMap(({ status }) => status?.lastSyncTime ?? []);
  const isAll = times.length === copied.length && times.length === verdict.copies.length;
  return isAll ? first(times) : undefined;
}

function earliestOf(shards: readonly MirrorShard[]): string | undefined {
  return first(shards.flatMap(({ status }) => status?.nextSyncTime ?? []));
}

function first(times: readonly string[]): string | undefined {
  return times.toSorted((a, b) => Date.parse(a) - Date.parse(b))[0];
}

function failuresOf(shards: readonly MirrorShard[]): NonNullable<MirrorStatus["failures"]> {
  const all = shards.flatMap(({ spec: { source }, status }) => {
    const { failure, failures = [] } = status ?? {};
    const tags = failures.map(({ tag, ...why }) => ({ reference: imageName(source, tag), ...why }));
    return failure ? [{ reference: source, ...failure }, ...tags] : tags;
  });
  return all.toSorted(byReference).slice(0, maxSamples);
}

function removalsOf({ shards, keptBy }: MirrorFacts): NonNullable<MirrorStatus["removals"]> {
  const all = shards.flatMap((shard) =>
    (shard.status?.removals ?? []).map((candidate) => ({
      shard,
      candidate,
      reference: imageName(shard.spec.target, candidate.tag),
    })),
  );
  const sorted = all.toSorted(
    (a, b) =>
      Date.parse(a.candidate.dueTime) - Date.parse(b.candidate.dueTime) || byReference(a, b),
  );
  return sorted.slice(0, maxSamples).map(({ shard, candidate, reference }) => {
    const user = keptBy(shard, candidate);
    const { dueTime } = candidate;
    return { reference, dueTime, ...(user !== undefined && { keptBy: user }) };
  });
}

function imageName(repository: string, tag: string): string {
  const separator = digestPattern.test(tag) ? "@" : ":";
  return `${repository}${separator}${tag}`.slice(0, maxReferenceLength);
}

function byReference(a: { reference: string }, b: { reference: string }): number {
  return a.reference < b.reference ? -1 : Number(a.reference > b.reference);
}

/** Conditions that only stand there while there is something to say. */
const problemTypes = [
  "Stalled",
  "SecretsFound",
  "DigestsDiffer",
  "DeleteUnsupported",
  "Suspended",
] as const;

function conditionsOf(mirror: Mirror, facts: MirrorFacts, counts: Counts): Finding[] {
  return [
    readyOf(mirror, facts, counts),
    progressingOf(mirror, facts, counts),
    ...problemsOf(mirror, facts),
  ];
}

function problemsOf(
  { spec }: Mirror,
  { verdict, shards, blocked, unwritten }: MirrorFacts,
): Finding[] {
  const findings: Finding[] = [];
  const tell = (
    type: (typeof problemTypes)[number],
    status: "True" | "False",
    reason: string,
    texts: readonly string[],
  ): void => {
    if (texts.length > 0) findings.push({ type, status, reason, message: listed(texts) });
  };
  const { lost, refusals } = verdict;
  const collisions = lost.map(
    ({ copy: { source, target }, holder }) =>
      `${source} is not copied: the Mirror ${quoted(holder)}, which is older, copies to ${target}`,
  );
  const refused = refusals.map(({ source, message }) => `${quoted(source)} ${message}`);
  const taken = blocked.map(
    (source) => `another MirrorShard has the name of the one for ${source}`,
  );
  const refusedWrites = [...unwritten].map(
    ([source, why]) => `the API server does not take the MirrorShard for ${source}: ${why}`,
  );
  const reason =
    lost.length > 0
      ? "DestinationCollision"
      : (refusals[0]?.reason ?? (taken.length > 0 ? "ShardNameTaken" : "ShardRefused"));
  tell("Stalled", "True", reason, [...collisions, ...refused, ...taken, ...refusedWrites]);
  const secrets = new Map(
    shards.flatMap(({ status }) => status?.secretProblems ?? []).map((each) => [each.name, each]),
  );
  const secretProblems = [...secrets.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  tell(
    "SecretsFound",
    "False",
    reasonOf(secretProblems[0]?.reason),
    secretProblems.map(({ name, message }) => `Secret ${quoted(name)} ${message}`),
  );
  const differing = shards.filter(({ status }) => status?.digestsDiffer);
  tell(
    "DigestsDiffer",
    "True",
    "PlatformsSelected",
    differing.map(({ spec: { source } }) => `copies of ${source} have other digests, by platforms`),
  );
  const unsupported = shards.filter(({ status }) => status?.deleteUnsupported);
  tell(
    "DeleteUnsupported",
    "True",
    "RegistryRefuses",
    spec.removalPolicy === "Delete"
      ? unsupported.map(({ spec: { target } }) => `the registry removes nothing from ${target}`)
      : [],
  );
  if (spec.suspend) tell("Suspended", "True", "Suspended", ["spec.suspend is set"]);
  return findings;
}

/** What a worker wrote is bounded, but may be no word. */
function reasonOf(text = ""): string {
  return /^[A-Za-z][A-Za-z0-9]*$/.test(text) ? text : "Unknown";
}

function listed(texts: readonly string[]): string {
  const named = texts.slice(0, maxNamed).join("; ");
  const rest = texts.length - maxNamed;
  const message = rest > 0 ? `${named}; and ${rest} more` : named;
  return message.slice(0, maxMessageChars).toWellFormed();
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

/** Conditions of earlier statuses that still apply, and those of other writers. */
function keptConditions({ status }: Mirror, problems: readonly Finding[]): readonly Condition[] {
  const standing = new Set(problems.map(({ type }) => type));
  const gone = new Set<string>(problemTypes.filter((type) => !standing.has(type)));
  return (status?.conditions ?? []).filter(({ type }) => !gone.has(type));
}

function readyOf(mirror: Mirror, facts: MirrorFacts, counts: Counts): Finding {
  const { verdict, blocked, unwritten } = facts;
  const { synced, tags, failed, throttled, pending } = counts;
  const message = `${synced} of ${tags} tags are right`;
  const no = (reason: string, rest = ""): Finding => {
    return { type: "Ready", status: "False", reason, message: `${message}${rest}` };
  };
  const refused = verdict.lost.length + verdict.refusals.length + blocked.length + unwritten.size;
  if (refused > 0) return no("Stalled", `; ${refused} repositories are not copied`);
  if (mirror.spec.suspend) return no("Suspended", "; suspended");
  if (failed > 0) return no("CopiesFailing", `; ${failed} failed`);
  if (throttled > 0) return no("Throttled", `; ${throttled} wait for registries`);
  if (pending > 0) return no("Copying");
  const unseen = unobserved(mirror, facts);
  if (unseen > 0) return no("Syncing", `; ${unseen} repositories are still to be looked at`);
  if (tags === 0) return no("NoTags", "; no tag of the registries is selected");
  if (synced < tags) return no("Syncing");
  return { type: "Ready", status: "True", reason: "AllTagsSynced", message };
}

function progressingOf(mirror: Mirror, facts: MirrorFacts, { pending, tags }: Counts): Finding {
  const isSuspended = mirror.spec.suspend;
  const isMoving = !isSuspended && (pending > 0 || unobserved(mirror, facts) > 0);
  return {
    type: "Progressing",
    status: isMoving ? "True" : "False",
    reason: isMoving ? "Copying" : "NothingToCopy",
    message: `${pending} of ${tags} tags are still to be looked at or copied`,
  };
}

/**
 * Of how many repositories it is not told how what they are to do has gone. A Mirror that was in step, and has not been changed since,
 * does not cease to be by what Coral itself adds to its shards: a run that was asked for, a removal.
 */
function unobserved({ metadata, status }: Mirror, facts: MirrorFacts): number {
  const { verdict, shards, outdated } = facts;
  const wasReady = status?.conditions?.some(
    ({ type, status: is, observedGeneration }) =>
      type === "Ready" && is === "True" && observedGeneration === metadata.generation,
  );
  const observed = shards.filter((shard) => {
    if (shard.spec.retired) return false;
    const told = shard.status?.observedGeneration;
    if (told === undefined) return false;
    return wasReady === true || (told === shard.metadata.generation && !outdated.has(shard));
  });
  return verdict.copies.length - observed.length;
}
