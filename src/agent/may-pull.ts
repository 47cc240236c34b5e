import type { Node } from "#kube/types.ts";

/** Whether a node's state allows new pulls, and if not, what stands against it. */
export type PullPermission =
  | { readonly isAllowed: true }
  | { readonly isAllowed: false; readonly reason: "NodeNotReady" | "DiskPressure" | "PIDPressure" };

/**
 * Decides whether new pulls may begin on a node: not while it is not Ready, or short of disk or
 * process ids. A pull that runs already goes on: stopping it would only waste what it fetched.
 */
export function mayPull({ status }: Node): PullPermission {
  const isTrue = (type: string): boolean =>
    status?.conditions?.some(
      (condition) => condition.type === type && condition.status === "True",
    ) ?? false;
  if (isTrue("DiskPressure")) return { isAllowed: false, reason: "DiskPressure" };
  if (isTrue("PIDPressure")) return { isAllowed: false, reason: "PIDPressure" };
  return isTrue("Ready") ? { isAllowed: true } : { isAllowed: false, reason: "NodeNotReady" };
}
