import { secrets, type Resource } from "#kube/resource.ts";
import type { KubeObject } from "#kube/types.ts";
import { parsePullSecret, type KeyringEntry } from "#remote/keyring.ts";

/** What is kept of a Secret: its logins, and nothing else that it holds. */
export interface PullSecret extends KubeObject {
  readonly entries: readonly KeyringEntry[];
  /** What of it cannot be used, to stand after the Secret's name. */
  readonly problems: readonly string[];
}

/** Secrets, read for their logins. */
export const pullSecrets: Resource<PullSecret> = {
  ...secrets,
  parse(value) {
    const { metadata, type, data } = secrets.parse(value);
    const { name, namespace, uid, resourceVersion } = metadata;
    return {
      metadata: {
        name,
        ...(namespace !== undefined && { namespace }),
        ...(uid !== undefined && { uid }),
        ...(resourceVersion !== undefined && { resourceVersion }),
      },
      ...parsePullSecret({ ...(type !== undefined && { type }), ...(data && { data }) }),
    };
  },
};

/** Whether an object can have this name: a DNS subdomain (RFC 1123). */
export function isObjectName(text: string): boolean {
  return (
    text.length <= 253 &&
    /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/.test(text)
  );
}
