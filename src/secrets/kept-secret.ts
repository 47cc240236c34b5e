import { secrets, type Resource } from "#kube/resource.ts";
import type { KubeObject } from "#kube/types.ts";
import { parsePullSecret, type KeyringEntry } from "#remote/keyring.ts";
import { parseAuthority, type Authority } from "./authority.ts";

/** What is kept of a Secret: its logins, its authority, and nothing else that it holds. */
export interface KeptSecret extends KubeObject {
  readonly entries: readonly KeyringEntry[];
  /** Why some of it cannot be used as logins, to stand after the Secret's name. */
  readonly problems: readonly string[];
  readonly authority: Authority;
}

/** Secrets, read for what is kept of them. */
export const keptSecrets: Resource<KeptSecret> = {
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
      authority: parseAuthority(data),
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
