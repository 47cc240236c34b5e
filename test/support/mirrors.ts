import { hash } from "node:crypto";

import type { Mirror, MirrorSpec } from "#api/v1/mirror.ts";
import type { ObjectMeta } from "#kube/types.ts";

/**
 * Makes a Mirror as the API server would return it: with defaults, of all tags of `source.test/org/app` into
 * `target.test`.
 */
export function aMirror(
  spec: Partial<MirrorSpec> = {},
  metadata: Partial<ObjectMeta> = {},
): Mirror {
  const { name = "app", namespace = "team" } = metadata;
  return {
    apiVersion: "stvz.io/v1",
    kind: "Mirror",
    metadata: {
      name,
      namespace,
      uid: hash("md5", `${namespace}/${name}`),
      resourceVersion: "1",
      generation: 1,
      creationTimestamp: "2026-01-01T00:00:00Z",
      ...metadata,
    },
    spec: {
      registry: "target.test",
      repositories: [{ name: "source.test/org/app", listSelection: "all" }],
      imagePullSecrets: [],
      destination: "{host}/{path}",
      referrers: true,
      removalPolicy: "Retain",
      gracePeriod: "24h",
      suspend: false,
      ...spec,
    },
  };
}

/** Names repositories of which a Mirror takes the tags given, or all. */
export function repositories(
  named: Readonly<Record<string, readonly string[] | "all">>,
): MirrorSpec["repositories"] {
  return Object.entries(named).map(([name, tags]) =>
    tags === "all" ? { name, listSelection: "all" } : { name, tags, listSelection: "listed" },
  );
}
