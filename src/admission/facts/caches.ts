import type { ImagePolicy } from "#api/v1/image-policy.ts";
import { imagePolicies } from "#api/v1/resources.ts";
import type { Clock } from "#async/clock.ts";
import type { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { metadataOf, namespaces } from "#kube/resource.ts";
import { slimMetadata } from "#kube/slim-metadata.ts";
import type { KubeObject } from "#kube/types.ts";
import type { Log } from "#telemetry/log.ts";

/** What admission watches besides what the controller does. */
export interface AdmissionCaches {
  readonly policies: Informer<ImagePolicy>;
  /** With their labels alone. */
  readonly namespaces: Informer<KubeObject>;
}

/** Makes the informers that admission needs, each keeping only what is used. Somebody has to run them. */
export function admissionCaches(common: {
  client: KubeClient;
  clock: Clock;
  log: Log;
}): AdmissionCaches {
  return {
    policies: new Informer({ ...common, resource: imagePolicies, transform: slimPolicy }),
    namespaces: new Informer({
      ...common,
      resource: metadataOf(namespaces),
      transform: ({ metadata }) => ({ metadata: slimMetadata(metadata) }),
    }),
  };
}

function slimPolicy({ metadata, spec, status }: ImagePolicy): ImagePolicy {
  return { metadata: slimMetadata(metadata), spec, ...(status && { status }) };
}
