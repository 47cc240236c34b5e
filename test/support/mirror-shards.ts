import type { MirrorShard, MirrorShardSpec, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import type { ObjectMeta } from "#kube/types.ts";

/** Makes a MirrorShard as the API server would return it: of `source.test/org/app`, all tags. */
export function aMirrorShard(
  spec: Partial<MirrorShardSpec> = {},
  {
    status,
    metadata = {},
  }: { status?: Partial<MirrorShardStatus>; metadata?: Partial<ObjectMeta> } = {},
): MirrorShard {
  return {
    apiVersion: "stvz.io/v1",
    kind: "MirrorShard",
    metadata: { name: "app-1", namespace: "team", generation: 1, ...metadata },
    spec: {
      mirror: "app",
      cluster: "c0ffee",
      source: "source.test/org/app",
      target: "target.test/org/app",
      listSelection: "all",
      referrers: true,
      imagePullSecrets: [],
      gracePeriod: "24h",
      suspend: false,
      ...spec,
    },
    ...(status && {
      status: {
        tags: 0,
        synced: 0,
        pending: 0,
        failed: 0,
        throttled: 0,
        bytesCopied: 0,
        ...status,
      },
    }),
  };
}
