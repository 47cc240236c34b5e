import { isDeepStrictEqual } from "node:util";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Image, ImageStatus } from "#api/v1/image.ts";
import { imagePlans, images } from "#api/v1/resources.ts";
import type { Clock } from "#async/clock.ts";
import type { KubeClient } from "#kube/client.ts";
import type { Lister } from "#kube/lister.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import { settled, type Reconcile, type Result } from "#kube/reconcile.ts";
import type { Counter } from "#telemetry/metrics.ts";
import { isPlanOf, planObject, planOf, storableSpec, type Planned } from "./plan.ts";
import { changesInMs, statusOf } from "./status.ts";
import type { Tally } from "./tally.ts";

export interface ImageDeps {
  client: Pick<KubeClient, "create" | "replace" | "delete" | "patch">;
  images: Lister<Image>;
  plans: Lister<ImagePlan>;
  tally: Pick<Tally, "countsOf" | "oldestLateMs">;
  clock: Clock;
  statusWrites: Counter<{}>;
  /** The least time between two writes of one status, unless it becomes Ready or ceases to be. */
  statusIntervalMs: number;
  newNodeGraceMs: number;
}

type Scope = { signal: AbortSignal };

/**
 * Keeps the ImagePlan of an Image as its spec says, and its status as the nodes report.
 *
 * Level-based: each call starts from the caches. It needs no finalizer: a plan without its Image
 * is removed, at the latest by the garbage collector, and the agents take down what no plan asks for.
 */
export function imageReconciler(deps: ImageDeps): Reconcile {
  const writtenAtMs = new Map<string, number>();

  return async function reconcile(key, { log, signal }) {
    const image = deps.images.get(key);
    if (!image) {
      writtenAtMs.delete(key);
      await removePlan(key, { signal });
      return settled;
    }
    const planned = planOf(image);
    if (await ensurePlan(image, planned, { signal })) log.info("ImagePlan written", nameOf(image));
    return writeStatus(key, image, planned, { signal });
  };

  /** The garbage collector would come round too, but may take half a minute. */
  async function removePlan(key: string, { signal }: Scope): Promise<void> {
    const plan = deps.plans.get(key);
    if (!plan) return;
    const { uid = "" } = plan.metadata;
    await deps.client.delete(imagePlans, plan.metadata, { preconditions: { uid }, signal });
  }

  /** @returns whether it had to write. */
  async function ensurePlan(image: Image, planned: Planned, { signal }: Scope): Promise<boolean> {
    const { client, plans } = deps;
    const plan = plans.get(image.metadata);
    const wanted = planObject(image, storableSpec(planned));
    if (!plan) {
      await client.create(imagePlans, wanted, { signal });
    } else if (!isPlanOf(plan, image)) {
      // Left by an Image of the same name that was deleted. Our cache may be behind: only that one.
      await removePlan(formatKey(keyOf(image)), { signal });
      await client.create(imagePlans, wanted, { signal });
    } else if (!isDeepStrictEqual(plan.spec, wanted.spec)) {
      const { resourceVersion = "" } = plan.metadata;
      const metadata = { ...wanted.metadata, resourceVersion };
      await client.replace(imagePlans, { ...wanted, metadata }, { signal });
    } else {
      return false;
    }
    return true;
  }

  async function writeStatus(
    key: string,
    image: Image,
    planned: Planned,
    { signal }: Scope,
  ): Promise<Result> {
    const { tally, clock, client, statusIntervalMs, newNodeGraceMs } = deps;
    const counts = tally.countsOf(key);
    if (!counts) return settled; // Not counted yet: its event is on its way.
    const now = clock.now();
    const facts = { planned, counts, oldestLateMs: tally.oldestLateMs(key), newNodeGraceMs, now };
    const status = statusOf(image, facts);
    const later = changesInMs(status, facts);
    if (isDeepStrictEqual(status, image.status)) {
      return later === undefined ? settled : { requeueAfterMs: later };
    }
    const sinceMs = now.getTime() - (writtenAtMs.get(key) ?? -Infinity);
    if (sinceMs >= 0 && sinceMs < statusIntervalMs && !isUrgent(image.status, status)) {
      return { requeueAfterMs: statusIntervalMs - sinceMs };
    }
    // With the version that was read: what was counted for an older spec must not pass for this one.
    const { resourceVersion = "" } = image.metadata;
    const body = { metadata: { resourceVersion }, status: replacing(image.status, status) };
    const change = { type: "merge", body, subresource: "status" } as const;
    await client.patch(images, image.metadata, { ...change, signal });
    writtenAtMs.set(key, now.getTime());
    deps.statusWrites.inc({});
    return later === undefined ? settled : { requeueAfterMs: later };
  }
}

/** A merge patch leaves alone what it does not name: what is gone must be named as `null`. */
function replacing(previous: ImageStatus | undefined, next: ImageStatus): Record<string, unknown> {
  const gone = Object.keys(previous ?? {}).filter((field) => !(field in next));
  return { ...next, ...Object.fromEntries(gone.map((field) => [field, null])) };
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
