import { imagePlans, images, mirrors, mirrorShards, nodeReports } from "#api/v1/resources.ts";
import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Image } from "#api/v1/image.ts";
import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import type { Mirror } from "#api/v1/mirror.ts";
import type { NodeReport } from "#api/v1/node-report.ts";
import type { Clock } from "#async/clock.ts";
import type { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { nodes, pods } from "#kube/resource.ts";
import type { Node, Pod } from "#kube/types.ts";
import type { Log } from "#telemetry/log.ts";
import { mirrorKeyOf, shardsByMirror } from "./mirror/shards.ts";
import { podSelector } from "./pods.ts";
import {
  reportSlimmer,
  slimImage,
  slimMirror,
  slimNode,
  slimPlan,
  slimPod,
  slimShard,
} from "./transforms.ts";

/** What the controller watches. */
export interface Caches {
  readonly images: Informer<Image>;
  readonly plans: Informer<ImagePlan>;
  readonly reports: Informer<NodeReport>;
  readonly nodes: Informer<Node>;
  /** Coral's pods: the agents', and the replicas of the controller. */
  readonly pods: Informer<Pod>;
}

/** Makes the informers that a controller needs, each keeping only what is used. Somebody has to run them. */
export function controllerCaches(
  common: { client: KubeClient; clock: Clock; log: Log },
  { namespace }: { namespace: string },
): Caches {
  return {
    images: new Informer({ ...common, resource: images, transform: slimImage }),
    plans: new Informer({ ...common, resource: imagePlans, transform: slimPlan }),
    reports: new Informer({ ...common, resource: nodeReports, transform: reportSlimmer() }),
    nodes: new Informer({ ...common, resource: nodes, transform: slimNode }),
    pods: new Informer({
      ...common,
      resource: pods,
      namespace,
      labelSelector: podSelector,
      transform: slimPod,
    }),
  };
}

/** What the replica that leads watches besides, for Mirrors. */
export interface MirrorCaches {
  readonly mirrors: Informer<Mirror>;
  readonly shards: Informer<MirrorShard>;
}

/** Makes the informers for Mirrors. Somebody has to run them. */
export function mirrorCaches(common: { client: KubeClient; clock: Clock; log: Log }): MirrorCaches {
  return {
    mirrors: new Informer({ ...common, resource: mirrors, transform: slimMirror }),
    shards: new Informer({
      ...common,
      resource: mirrorShards,
      transform: slimShard,
      indexes: {
        [shardsByMirror]: (shard) => {
          const key = mirrorKeyOf(shard);
          return key === undefined ? [] : [key];
        },
      },
    }),
  };
}
