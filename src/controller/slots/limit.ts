import type { ImagePlan } from "#api/v1/image-plan.ts";
import { matchesSelector } from "#api/v1/selector.ts";

/** What bounds the slots of plans. */
export interface LimitFacts {
  readonly plan: ImagePlan | undefined;
  /** The node that asks. */
  readonly labels: Readonly<Record<string, string>> | undefined;
  /** How many nodes the plan is for; `undefined` if they are not counted yet. */
  readonly totalNodes: number | undefined;
}

/**
 * Tells how many nodes may hold a slot of a plan at once; `undefined` if it does not bound them, or
 * is not for the node that asks.
 */
export function slotLimit({ plan, labels, totalNodes }: LimitFacts): number | undefined {
  const { maxConcurrentNodes: max, selector } = plan?.spec ?? {};
  if (max === undefined || selector === undefined || labels === undefined) return undefined;
  if (!matchesSelector(selector, labels)) return undefined;
  if (typeof max === "number") return Math.max(max, 1);
  const percent = /^([1-9][0-9]?|100)%$/.exec(max)?.[1];
  if (percent === undefined || totalNodes === undefined) return undefined;
  return Math.max(Math.ceil((totalNodes * Number(percent)) / 100), 1);
}
