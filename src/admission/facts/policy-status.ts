import { isDeepStrictEqual } from "node:util";

import { setCondition } from "#api/v1/conditions.ts";
import type { ImagePolicy, ImagePolicyStatus } from "#api/v1/image-policy.ts";
import type { Condition } from "#kube/types.ts";
import { readyPolicy, type PolicyProblem } from "./ready-policy.ts";

/** What a status is made of besides the policy. */
export interface PolicyStatusFacts {
  /** Whether the API server has the plugin AlwaysPullImages. */
  readonly alwaysPulls: boolean;
  readonly now: Date;
}

type Finding = Pick<Condition, "type" | "status" | "reason" | "message">;

/** A message shows so many problems and counts the rest. */
const maxShown = 3;

/** Of what a policy says, a message quotes so much. */
const maxQuotedChars = 100;

/** Stands there only while it is so. */
const ignored = "PullPoliciesIgnored";

/**
 * Makes the status of a policy. What is right stays, conditions of others included.
 *
 * @returns `undefined` if nothing is to be written.
 */
export function policyStatusOf(
  policy: ImagePolicy,
  { alwaysPulls, now }: PolicyStatusFacts,
): ImagePolicyStatus | undefined {
  const observedGeneration = policy.metadata.generation ?? 0;
  const findings = [readyOf(policy)];
  if (alwaysPulls && policy.spec.pullPolicy !== "Unchanged") findings.push(ignoredOf(policy));
  const kept = (policy.status?.conditions ?? []).filter(
    ({ type }) => type !== ignored || findings.some((finding) => finding.type === ignored),
  );
  const conditions = findings.reduce<readonly Condition[]>(
    (done, finding) => setCondition(done, { ...finding, observedGeneration }, now),
    kept,
  );
  const status = { ...policy.status, observedGeneration, conditions };
  return isDeepStrictEqual(status, policy.status) ? undefined : status;
}

function readyOf(policy: ImagePolicy): Finding {
  const result = readyPolicy(policy);
  if (!Array.isArray(result)) {
    const message =
      policy.spec.mode === "Off"
        ? "Images that it selects are left alone"
        : "It decides about the images that it selects";
    return { type: "Ready", status: "True", reason: "InForce", message };
  }
  const shown = result.slice(0, maxShown).map(formatProblem);
  const more = result.length > maxShown ? [`${result.length - maxShown} more`] : [];
  const message = `It is ignored as a whole: ${[...shown, ...more].join("; ")}`;
  return { type: "Ready", status: "False", reason: "Invalid", message };
}

function formatProblem({ path, value, message }: PolicyProblem): string {
  return `${path}: ${JSON.stringify(value.slice(0, maxQuotedChars))} ${message}`;
}

function ignoredOf({ spec }: ImagePolicy): Finding {
  return {
    type: ignored,
    status: "True",
    reason: "AlwaysPullImages",
    message: `The API server has the plugin AlwaysPullImages, which refuses other pull policies: ${spec.pullPolicy} is not set`,
  };
}
