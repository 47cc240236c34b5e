import type { Informer } from "#kube/informer.ts";
import type { KubeObject } from "#kube/types.ts";

/** What an informer offers the agent. Somebody else runs it: several agents may share one. */
export type Feed<T extends KubeObject> = Pick<Informer<T>, "get" | "list" | "onChange" | "synced">;
