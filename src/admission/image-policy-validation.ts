import type { ImagePolicy, ImagePolicySpec } from "#api/v1/image-policy.ts";
import { invalid, type SpecProblem } from "#api/v1/spec-problems.ts";
import { readyPolicy } from "./facts/ready-policy.ts";
import { imagePolicyWarnings } from "./image-policy-warnings.ts";
import { withoutKnown, type Verdict } from "./verdict.ts";

/**
 * Validates an ImagePolicy that has passed its schema and rules, for the API server asks webhooks last: what
 * no rule can say.
 *
 * @param previous - what an update replaces. Faults and warnings that it had are not told again, so
 *   that a policy from before a rule can still be changed, and be let go of.
 */
export function validateImagePolicy(policy: ImagePolicy, previous?: ImagePolicy): Verdict {
  const verdict = verdictOf(policy);
  return previous ? withoutKnown(verdict, verdictOf(previous)) : verdict;
}

function verdictOf(policy: ImagePolicy): Verdict {
  const read = readyPolicy(policy);
  const faults = [...(Array.isArray(read) ? read : []), ...exemptionProblems(policy.spec)];
  return { faults, warnings: imagePolicyWarnings(policy.spec) };
}

const namespacePattern = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;

/** Unlike images and containers, namespaces are told by name. */
function exemptionProblems({ exempt: { namespaces = [] } = {} }: ImagePolicySpec): SpecProblem[] {
  const message =
    'must be the name of a namespace: lower-case letters, digits and "-"; for several, namespaceSelector tells them by labels';
  return namespaces.flatMap((name, index) =>
    namespacePattern.test(name) ? [] : [invalid(`spec.exempt.namespaces[${index}]`, name, message)],
  );
}
