import type { ImageFact, SlotDecision } from "./model.ts";
import { placeOf } from "./slots.ts";
import { nameOf, type Want } from "./want.ts";

/** What a decision about a pull policy depends on, besides who wants which. */
export interface PullScene {
  /** Whether the API server refuses all but `Always`. */
  readonly alwaysPulls: boolean;
  /** Whether a node that fits the pod holds an image. */
  isHeld(image: ImageFact): boolean;
  /** Whether the pod goes only to nodes that hold an image. */
  isBound(image: ImageFact): boolean;
}

/** What becomes of a pull policy, and why. */
export interface PullDecision extends Pick<SlotDecision, "pullPolicy" | "reasons"> {
  readonly warnings: readonly string[];
}

/**
 * Decides what becomes of the pull policy of one image.
 *
 * `Never` is set only while a node holds the image, and for a policy only if the pod goes to such nodes:
 * elsewhere it could never start. `Never` that the pod has of its own stays, unless its author asks for
 * something else: who writes it may not want what a registry has under that name.
 */
export function pullDecisionOf(want: Want, scene: PullScene): PullDecision {
  const { slot, fact, pullPolicy } = want;
  if (!pullPolicy) return { pullPolicy: undefined, reasons: [], warnings: [] };
  const { to, by } = pullPolicy;
  const place = `${placeOf(slot)}: `;

  function kept(reason: string): PullDecision {
    const warnings = by === "annotation" ? [`${place}${reason}`] : [];
    return { pullPolicy: undefined, reasons: [reason], warnings };
  }

  function set(value: "IfNotPresent" | "Never"): PullDecision {
    if (slot.pullPolicy === value) {
      return {
        pullPolicy: undefined,
        reasons: [`its pull policy is ${value} already`],
        warnings: [],
      };
    }
    const reasons = [`${nameOf(by)} sets its pull policy to ${value}`];
    return { pullPolicy: value, reasons, warnings: [] };
  }

  function lowered(reason: string): PullDecision {
    const { pullPolicy, reasons } =
      slot.pullPolicy === "Never" ? kept("its pull policy stays Never") : set("IfNotPresent");
    const warnings = by === "annotation" ? [`${place}${reason}`] : [];
    return { pullPolicy, reasons: [reason, ...reasons], warnings };
  }

  if (!fact) return kept("no Image asks for it, so its pull policy stays as it is");
  if (scene.alwaysPulls) {
    return kept("the API server's AlwaysPullImages allows no other pull policy than Always");
  }
  if (by !== "annotation" && fact.isPrivate && !fact.isOfNamespace) {
    return kept("it needs a login, and no Image of the pod's namespace asks for it");
  }
  if (to === "IfNotPresent") {
    const isWeaker = by !== "annotation" && slot.pullPolicy === "Never";
    return isWeaker ? kept("its pull policy stays Never") : set(to);
  }
  if (!scene.isHeld(fact)) {
    return lowered("no node that fits the pod holds it yet, so it may be pulled");
  }
  if (by !== "annotation" && !scene.isBound(fact)) {
    return lowered("the pod may go to a node without it, so it may be pulled");
  }
  return set("Never");
}
