import type { Condition } from "#kube/types.ts";

/**
 * Puts a condition in place of the one of its type, or at the end. `lastTransitionTime` is now if
 * the condition is new or its status differs, and stays otherwise.
 */
export function setCondition(
  conditions: readonly Condition[],
  next: Omit<Condition, "lastTransitionTime">,
  now: Date,
): Condition[] {
  const previous = conditions.find(({ type }) => type === next.type);
  const condition = {
    ...next,
    lastTransitionTime:
      previous?.status === next.status ? previous.lastTransitionTime : formatTime(now),
  };
  return previous
    ? conditions.map((other) => (other === previous ? condition : other))
    : [...conditions, condition];
}

/** Formats a moment as Kubernetes does: RFC 3339 in whole seconds. */
export function formatTime(time: Date): string {
  return time.toISOString().replace(/\.\d+Z$/, "Z");
}
