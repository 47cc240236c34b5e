import type { Informer } from "#kube/informer.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import type { KubeObject } from "#kube/types.ts";

/** What facts are made from: an informer, or what was listed once. */
export type Feed<T extends KubeObject> = Pick<Informer<T>, "get" | "onChange" | "hasSynced">;

/** A feed of objects that do not change any more, as a command has listed them. */
export function fixedFeed<T extends KubeObject>(objects: readonly T[]): Feed<T> {
  const byKey = new Map(objects.map((object) => [formatKey(keyOf(object)), object]));
  return {
    hasSynced: true,
    get: (key) => byKey.get(typeof key === "string" ? key : formatKey(key)),
    onChange(listener) {
      for (const [key, object] of byKey) listener({ type: "added", key, object });
      return { [Symbol.dispose]() {} };
    },
  };
}
