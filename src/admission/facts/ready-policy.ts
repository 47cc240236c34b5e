import type { ImagePolicy, ImagePolicySpec } from "#api/v1/image-policy.ts";
import { invalid, type SpecProblem } from "#api/v1/spec-problems.ts";
import type { ReadyPolicy } from "#admission/pods/model.ts";
import { compileGlob } from "./glob.ts";
import { compileLabelSelector, labelSelectorProblems } from "./label-selector.ts";

/** Something that keeps a policy from being obeyed. */
export type PolicyProblem = SpecProblem;

/** As the rule of the field has it. */
const percentPattern = /^([1-9][0-9]?|100)%$/;

/**
 * Makes a policy ready to be asked about pods, or lists all that is wrong with it. One with a problem is
 * obeyed in no part: what its author meant is not known.
 */
export function readyPolicy({ metadata, spec }: ImagePolicy): ReadyPolicy | PolicyProblem[] {
  const problems = policyProblems(spec);
  if (problems.length > 0) return problems;
  const { mode, pullPolicy, nodes, admit, enforcement } = spec;
  const hasLabels = compileLabelSelector(spec.namespaceSelector ?? {});
  const isExempt = exemptionOf(spec);
  return {
    name: metadata.name,
    mode,
    pullPolicy,
    nodes,
    minNodes: minNodesOf(spec.minNodes),
    admit,
    enforcement,
    selectsPod: (request, labels) => !isExempt(request) && hasLabels(labels),
    selectsImage: anyOf(spec.images) ?? always,
    selectsContainer: containerMatcher(spec),
  };
}

/** The order in which policies are asked: the highest priority first, of equal ones the first by name. */
export function comparePolicies(a: ImagePolicy, b: ImagePolicy): number {
  if (a.spec.priority !== b.spec.priority) return b.spec.priority - a.spec.priority;
  return a.metadata.name < b.metadata.name ? -1 : 1;
}

function policyProblems({ namespaceSelector, images = [], minNodes }: ImagePolicySpec) {
  return [
    ...(namespaceSelector
      ? labelSelectorProblems("spec.namespaceSelector", namespaceSelector)
      : []),
    ...images.flatMap((glob, index) => imageGlobProblems(`spec.images[${index}]`, glob)),
    ...minNodesProblems(minNodes),
  ];
}

/** Names of images are matched whole: what lacks the registry or the tag would silently match none. */
function imageGlobProblems(path: string, glob: string): SpecProblem[] {
  const last = glob.slice(glob.lastIndexOf("/") + 1);
  if (!glob.includes("/") && !glob.includes("**")) {
    const message = "must begin with a registry, as in docker.io/library/*, or with **";
    return [invalid(path, glob, message)];
  }
  if (/[*:@]/.test(last)) return [];
  return [invalid(path, glob, `must end in a tag, a digest or a star, as in ${glob}:*`)];
}

function minNodesProblems(minNodes: ImagePolicySpec["minNodes"]): SpecProblem[] {
  const isRight = typeof minNodes === "number" ? minNodes >= 1 : percentPattern.test(minNodes);
  if (isRight) return [];
  const message = 'must be a whole number of at least 1, or a percentage from "1%" to "100%"';
  return [invalid("spec.minNodes", String(minNodes), message)];
}

function minNodesOf(minNodes: ImagePolicySpec["minNodes"]): ReadyPolicy["minNodes"] {
  return typeof minNodes === "number"
    ? { count: minNodes }
    : { share: Number.parseInt(minNodes, 10) / 100 };
}

type Requester = Parameters<ReadyPolicy["selectsPod"]>[0];

function exemptionOf({ exempt }: ImagePolicySpec): (request: Requester) => boolean {
  const namespaces = new Set(exempt?.namespaces);
  const users = new Set(exempt?.users);
  const groups = new Set(exempt?.groups);
  return (request) =>
    namespaces.has(request.namespace) ||
    users.has(request.user) ||
    request.groups.some((group) => groups.has(group));
}

function containerMatcher(spec: ImagePolicySpec): (name: string) => boolean {
  const isIncluded = anyOf(spec.includeContainers);
  if (isIncluded) return isIncluded;
  const isExcluded = anyOf(spec.excludeContainers);
  return isExcluded ? (name) => !isExcluded(name) : always;
}

/** @returns `undefined` if there are no globs: many programs leave out an empty list, others write it. */
function anyOf(globs: readonly string[] = []): ((text: string) => boolean) | undefined {
  if (globs.length === 0) return undefined;
  const matchers = globs.map(compileGlob);
  return (text) => matchers.some((matches) => matches(text));
}

function always(): boolean {
  return true;
}
