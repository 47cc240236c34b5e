import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import { mirrorShards } from "#api/v1/resources.ts";
import type { KubeClient } from "#kube/client.ts";
import { ApiError, ConflictError } from "#kube/errors.ts";
import { keyOf } from "#kube/key.ts";
import type { MirrorMetrics } from "./metrics.ts";
import type { ShardPlan } from "./shards.ts";

export interface ShardWritesOptions {
  client: Pick<KubeClient, "create" | "patch" | "delete">;
  metrics: Pick<MirrorMetrics, "shardWrites">;
  signal: AbortSignal;
}

/** How the writes of a plan went. */
export interface ShardWrites {
  /** Shards as they are now, of those that were created or changed. */
  readonly written: readonly MirrorShard[];
  /** What the API server does not take, and why, by source. */
  readonly refused: ReadonlyMap<string, string>;
  /** The first of what failed, if something did. It is worth another try, later. */
  readonly failure?: { readonly error: unknown };
}

/**
 * Carries out a plan. One write that fails keeps none of the others back.
 *
 * @throws only the signal's reason.
 */
export async function writeShards(
  plan: Pick<ShardPlan, "create" | "update" | "delete">,
  { client, metrics, signal }: ShardWritesOptions,
): Promise<ShardWrites> {
  const written: MirrorShard[] = [];
  const refused = new Map<string, string>();
  let failure: { error: unknown } | undefined;
  const attempt = async (
    operation: "create" | "update" | "delete",
    { spec: { source } }: MirrorShard,
    write: () => Promise<MirrorShard | undefined>,
  ): Promise<void> => {
    try {
      const shard = await write();
      metrics.shardWrites.inc({ operation });
      if (shard) written.push(shard);
    } catch (error) {
      signal.throwIfAborted();
      failure ??= { error };
      if (isRefusal(error)) refused.set(source, `${error.status} ${error.reason}`);
    }
  };
  for (const shard of plan.create) {
    await attempt("create", shard, () => client.create(mirrorShards, shard, { signal }));
  }
  for (const { shard, spec } of plan.update) {
    // With the version that was read: of two who believe to lead, one is refused.
    const body = [
      { op: "replace", path: "/metadata/resourceVersion", value: shard.metadata.resourceVersion },
      { op: "replace", path: "/spec", value: spec },
    ];
    const change = { type: "json", body, signal } as const;
    await attempt("update", shard, () => client.patch(mirrorShards, keyOf(shard), change));
  }
  for (const shard of plan.delete) {
    const { uid = "" } = shard.metadata;
    await attempt("delete", shard, async () => {
      await client.delete(mirrorShards, keyOf(shard), { preconditions: { uid }, signal });
      return undefined;
    });
  }
  return { written, refused, ...(failure && { failure }) };
}

/** Whether the API server would say the same again. What it met in another version is behind in our cache. */
function isRefusal(error: unknown): error is ApiError {
  if (!(error instanceof ApiError) || error instanceof ConflictError) return false;
  return !error.retryable && error.status !== 404;
}
