import type { KubeObject } from "./types.ts";

/** Names one object of a kind. Cluster-scoped objects have no namespace. */
export interface ObjectKey {
  readonly name: string;
  readonly namespace?: string;
}

/** The key of an object. */
export function keyOf({ metadata: { name, namespace } }: KubeObject): ObjectKey {
  return namespace ? { name, namespace } : { name };
}

/** Writes a key as `namespace/name`, or `name` alone: what work queues and caches are keyed by. */
export function formatKey({ name, namespace }: ObjectKey): string {
  return namespace ? `${namespace}/${name}` : name;
}

/** Reads what `formatKey` wrote. */
export function parseKey(text: string): ObjectKey {
  const slash = text.indexOf("/");
  if (slash < 0) return { name: text };
  return { name: text.slice(slash + 1), namespace: text.slice(0, slash) };
}
