import { isDeepStrictEqual } from "node:util";

import type { ImagePlan, ImagePlanSpec } from "#api/v1/image-plan.ts";
import type { Image, ImageStatus } from "#api/v1/image.ts";
import { imagePlans, images } from "#api/v1/resources.ts";
import type { Clock } from "#async/clock.ts";
import { loginRevision } from "#controller/credentials/login-providers.ts";
import type { KubeClient } from "#kube/client.ts";
import type { EventRecorder } from "#kube/events.ts";
import type { Lister } from "#kube/lister.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import { settled, type Reconcile, type Result } from "#kube/reconcile.ts";
import type { LoginProviders } from "#secrets/repository-logins.ts";
import type { SecretProblem } from "#secrets/secret-watch.ts";
import type { Counter } from "#telemetry/metrics.ts";
import { totalOf, type ImageCounts, type StateCounts } from "./counts.ts";
import { isPlanOf, planObject, planOf, storableSpec, type Planned } from "./plan.ts";
import { happeningsOf } from "./events.ts";
import { allowance, type Quota } from "./quota.ts";
import type { QuotaUsage } from "./quota-usage.ts";
import type { Resolver } from "./resolver.ts";
import { changesInMs, statusOf, type StatusFacts } from "./status.ts";
import type { Tally } from "./tally.ts";

export interface ImageDeps {
  client: Pick<KubeClient, "create" | "replace" | "delete" | "patch">;
  images: Lister<Image>;
  plans: Lister<ImagePlan>;
  tally: Pick<Tally, "countsOf" | "nodeCountsOf" | "oldestLateMs">;
  resolver: Pick<
    Resolver,
    "begin" | "listed" | "found" | "isOpen" | "keepOnly" | "forget" | "recheck" | "problemsOf"
  >;
  pullSecrets: PullSecrets;
  providers: LoginProviders;
  recorder: Pick<EventRecorder, "record">;
  clock: Clock;
  statusWrites: Counter<{}>;
  /** The least time between two writes of one status, unless it becomes Ready or ceases to be. */
  statusIntervalMs: number;
  newNodeGraceMs: number;
  /** What the Images of each namespace may ask for. */
  quota: Quota;
  /** What they ask for already, if the quota bounds it. */
  usage: Pick<QuotaUsage, "takenBefore">;
}

/** What is known of Secrets that hold logins. */
export interface PullSecrets {
  /** Changes when one of them does; `undefined` while they are being read. */
  revisionOf(namespace: string, names: readonly string[]): string | undefined;
  problemsOf(namespace: string, names: readonly string[]): readonly SecretProblem[];
}

/** How long a change of a plan waits for more of its kind: each goes to every agent. */
const gatherMs = 5_000;

/** How long to wait for Secrets that are being read. */
const secretsMs = 250;

type Scope = { signal: AbortSignal };

/**
 * Keeps the ImagePlan of an Image as its spec says, and its status as the nodes report.
 *
 * Level-based: each call starts from the caches. It needs no finalizer: a plan without its Image
 * is removed, at the latest by the garbage collector, and the agents take down what no plan asks for.
 */
export function imageReconciler(deps: ImageDeps): Reconcile {
  const writtenAtMs = new Map<string, number>();
  const plannedAtMs = new Map<string, number>();

  return async function reconcile(key, { log, signal }) {
    const image = deps.images.get(key);
    if (!image) {
      writtenAtMs.delete(key);
      plannedAtMs.delete(key);
      deps.resolver.forget(key);
      await removePlan(key, { signal });
      return settled;
    }
    const names = secretNamesOf(image);
    const secrets = deps.pullSecrets.revisionOf(image.metadata.namespace ?? "", names);
    if (names.length > 0 && secrets === undefined) return { requeueAfterMs: secretsMs };
    const revision = loginRevision(image, names.length > 0 ? secrets : undefined, deps.providers);
    const planned = planWith(image, revision);
    const outcome = await ensurePlan(key, image, planned, { signal });
    if (outcome === "written") {
      log.info("ImagePlan written", nameOf(image));
      return settled; // It comes back by the watch, is counted, and leads here again.
    }
    if (outcome === "waits") {
      const { requeueAfterMs = gatherMs } = await writeStatus(key, image, planned, { signal });
      return { requeueAfterMs: Math.min(requeueAfterMs, gatherMs) };
    }
    if (outcome === "ignored") log.warn("the API server keeps less of the plan", nameOf(image));
    return writeStatus(key, image, planned, { signal });
  };

  /** Plans with all that is known, and has what is not known asked for. */
  function planWith(image: Image, pullSecretsRevision: string | undefined): Planned {
    const { resolver, plans } = deps;
    const stored = plans.get(image.metadata);
    const earlier = stored && isPlanOf(stored, image) ? stored.spec : undefined;
    resolver.begin(image, earlier, pullSecretsRevision);
    const planned = planOf(image, {
      listed: (repository) => resolver.listed(image, repository, earlier),
      found: (reference) => resolver.found(image, reference),
      isOpen: (reference) => resolver.isOpen(formatKey(keyOf(image)), reference),
      allowance: allowance(deps.quota, deps.usage.takenBefore(image)),
      ...(pullSecretsRevision !== undefined && { pullSecretsRevision }),
    });
    resolver.keepOnly(image, new Set(planned.wanted));
    return planned;
  }

  /** The garbage collector would come round too, but may take half a minute. */
  async function removePlan(key: string, { signal }: Scope): Promise<void> {
    const plan = deps.plans.get(key);
    if (!plan) return;
    const { uid = "" } = plan.metadata;
    await deps.client.delete(imagePlans, plan.metadata, { preconditions: { uid }, signal });
  }

  /**
   * Brings the plan up to date. `ignored` is a write that changed nothing: the CRD is older than this
   * controller, and what it does not know is dropped. What `waits` is written a few seconds later.
   */
  async function ensurePlan(
    key: string,
    image: Image,
    planned: Planned,
    { signal }: Scope,
  ): Promise<"right" | "written" | "ignored" | "waits"> {
    const { client, plans } = deps;
    const plan = plans.get(image.metadata);
    const wanted = planObject(image, storableSpec(planned));
    const nowMs = deps.clock.now().getTime();
    if (plan && isPlanOf(plan, image)) {
      if (isDeepStrictEqual(plan.spec, wanted.spec)) return "right";
      if (mayWait(key, plan, wanted, nowMs)) return "waits";
      const { resourceVersion = "" } = plan.metadata;
      const metadata = { ...wanted.metadata, resourceVersion };
      plannedAtMs.set(key, nowMs);
      const stored = await client.replace(imagePlans, { ...wanted, metadata }, { signal });
      return stored.metadata.resourceVersion === resourceVersion ? "ignored" : "written";
    }
    // Left by an Image of the same name that was deleted. Our cache may be behind: only that one.
    if (plan) await removePlan(key, { signal });
    plannedAtMs.set(key, nowMs);
    await client.create(imagePlans, wanted, { signal });
    return "written";
  }

  /**
   * Whether nothing differs but what registries told, while more of it is soon to come, or the revision
   * of Secrets, which somebody may change many times a second: every write goes to every agent.
   */
  function mayWait(key: string, plan: ImagePlan, wanted: ImagePlan, nowMs: number): boolean {
    const sinceMs = nowMs - (plannedAtMs.get(key) ?? -Infinity);
    if (sinceMs < 0 || sinceMs >= gatherMs) return false;
    const isSameRevision = plan.spec.pullSecretsRevision === wanted.spec.pullSecretsRevision;
    if (isSameRevision && !deps.resolver.isOpen(key)) return false;
    return isDeepStrictEqual(withoutFindings(plan.spec), withoutFindings(wanted.spec));
  }

  async function writeStatus(
    key: string,
    image: Image,
    planned: Planned,
    { signal }: Scope,
  ): Promise<Result> {
    const { tally, clock, client, statusIntervalMs, newNodeGraceMs } = deps;
    const nodes = tally.nodeCountsOf(key);
    if (!nodes) return settled; // Not counted yet: its event is on its way.
    const now = clock.now();
    const sinceMs = now.getTime() - (writtenAtMs.get(key) ?? -Infinity);
    const isEarly = sinceMs >= 0 && sinceMs < statusIntervalMs;
    // Who waits for Ready is told at once; the rest is not even counted before its time.
    if (isEarly && !mayBeUrgent(image, nodes))
      return { requeueAfterMs: statusIntervalMs - sinceMs };
    const counts = tally.countsOf(key);
    if (!counts) return settled;
    recheckMoved(image, counts);
    const { namespace = "" } = image.metadata;
    const facts: StatusFacts = {
      planned,
      counts,
      isResolving: deps.resolver.isOpen(key),
      lookupProblems: deps.resolver.problemsOf(key),
      secretProblems: deps.pullSecrets.problemsOf(namespace, secretNamesOf(image)),
      oldestLateMs: tally.oldestLateMs(key),
      newNodeGraceMs,
      now,
    };
    const status = statusOf(image, facts);
    const later = changesInMs(status, facts);
    if (isDeepStrictEqual(status, image.status)) {
      return later === undefined ? settled : { requeueAfterMs: later };
    }
    if (isEarly && !isUrgent(image.status, status)) {
      return { requeueAfterMs: statusIntervalMs - sinceMs };
    }
    // With the version that was read: what was counted for an older spec must not pass for this one.
    const { resourceVersion = "" } = image.metadata;
    const body = { metadata: { resourceVersion }, status: replacing(image.status, status) };
    const change = { type: "merge", body, subresource: "status" } as const;
    await client.patch(images, image.metadata, { ...change, signal });
    writtenAtMs.set(key, now.getTime());
    deps.statusWrites.inc({});
    tellOf(image, status);
    return later === undefined ? settled : { requeueAfterMs: later };
  }

  /** A node that has another digest may have met a tag that moved since it was looked at. */
  function recheckMoved(image: Image, { references }: ImageCounts): void {
    for (const { reference, remarked } of references) {
      for (const { digest } of remarked?.get("TagMoved") ?? []) {
        if (digest !== undefined) deps.resolver.recheck(image, reference, digest);
      }
    }
  }

  function tellOf(image: Image, status: ImageStatus): void {
    const { name, namespace = "", uid = "" } = image.metadata;
    const regarding = { apiVersion: "stvz.io/v1", kind: "Image", name, namespace, uid };
    for (const happening of happeningsOf(image.status, status)) {
      deps.recorder.record({ regarding, ...happening });
    }
  }
}

/** A plan without what registries told and what Secrets became. */
function withoutFindings({
  pullSecretsRevision,
  ...spec
}: ImagePlanSpec): Omit<ImagePlanSpec, "pullSecretsRevision"> & { hasSecrets: boolean } {
  const images = spec.images.map(({ reference }) => ({ reference }));
  return { ...spec, images, hasSecrets: pullSecretsRevision !== undefined };
}

/** The Secrets that an Image names. */
export function secretNamesOf({ spec }: Image): string[] {
  return spec.imagePullSecrets.map(({ name }) => name);
}

/** A merge patch leaves alone what it does not name: what is gone must be named as `null`. */
function replacing(previous: ImageStatus | undefined, next: ImageStatus): Record<string, unknown> {
  const gone = Object.keys(previous ?? {}).filter((field) => !(field in next));
  return { ...next, ...Object.fromEntries(gone.map((field) => [field, null])) };
}

/** Whether the numbers alone let Ready change, or it is the first status of a generation. */
function mayBeUrgent({ metadata, status }: Image, nodes: Readonly<StateCounts>): boolean {
  const isAllThere = nodes.available === totalOf(nodes);
  return (
    status?.observedGeneration !== metadata.generation ||
    isAllThere !== (readyOf(status) === "True")
  );
}

/** People and scripts wait for Ready, and for the first status of a generation. */
function isUrgent(previous: ImageStatus | undefined, next: ImageStatus): boolean {
  return (
    previous?.observedGeneration !== next.observedGeneration || readyOf(previous) !== readyOf(next)
  );
}

function readyOf(status: ImageStatus | undefined): string | undefined {
  return status?.conditions?.find(({ type }) => type === "Ready")?.status;
}

function nameOf({ metadata: { namespace, name } }: Image): { namespace?: string; name: string } {
  return { name, ...(namespace !== undefined && { namespace }) };
}
