import type { PodDecision, ReadyPolicy, SlotDecision } from "./model.ts";
import { placeOf } from "./slots.ts";
import { nameOf, type Subject } from "./want.ts";

/** Something that a policy would do. */
interface Remark {
  readonly policy: ReadyPolicy;
  readonly key: "would-change" | "would-refuse";
  readonly text: string;
}

/** Whether a place of a pod has a policy that changes and refuses nothing, and tells what it would do. */
export function isOnlyTold({ policy }: Subject): boolean {
  return policy !== undefined && policy.enforcement !== "Enforce";
}

/**
 * Tells what policies that only tell would do.
 *
 * @param is - what is decided about each subject.
 * @param would - what would be, if all policies were enforced.
 */
export function toldOf(
  subjects: readonly Subject[],
  is: readonly SlotDecision[],
  would: readonly SlotDecision[],
): Pick<PodDecision, "warnings" | "audit"> {
  const remarks = subjects.flatMap((subject, index) => {
    const [before, after] = [is[index], would[index]];
    if (!isOnlyTold(subject) || !subject.policy || !before || !after) return [];
    return remarksOf(subject.policy, before, after);
  });
  const warned = remarks.filter(({ policy }) => policy.enforcement === "Warn");
  const audited = Object.groupBy(
    remarks.filter(({ policy }) => policy.enforcement === "Audit"),
    ({ key }) => key,
  );
  return {
    warnings: warned.map(({ text }) => text),
    audit: Object.fromEntries(
      Object.entries(audited).map(([key, texts]) => [
        key,
        texts.map(({ text }) => text).join("; "),
      ]),
    ),
  };
}

function remarksOf(policy: ReadyPolicy, is: SlotDecision, would: SlotDecision): Remark[] {
  const begin = `${nameOf(policy)} would`;
  const changes = [
    ...(would.pullPolicy === is.pullPolicy ? [] : [pullWord(would)]),
    ...(would.nodes === is.nodes ? [] : [nodesWord(would)]),
  ];
  const change = `${begin} ${changes.join(" and ")}: ${placeOf(is.slot)}`;
  const refusal = `${begin} refuse the pod: ${would.refusal}`;
  return [
    ...(changes.length > 0 ? [{ policy, key: "would-change" as const, text: change }] : []),
    ...(would.refusal === undefined
      ? []
      : [{ policy, key: "would-refuse" as const, text: refusal }]),
  ];
}

function pullWord({ pullPolicy }: SlotDecision): string {
  return pullPolicy ? `set its pull policy to ${pullPolicy}` : "leave its pull policy alone";
}

function nodesWord({ nodes }: SlotDecision): string {
  switch (nodes) {
    case "Required":
      return "bind the pod to nodes that hold it";
    case "Preferred":
      return "prefer nodes that hold it";
    case "None":
      return "not care where the pod goes";
    default:
      return nodes satisfies never;
  }
}
