import { isImageLabel } from "#api/v1/labels.ts";
import { isJsonObject, type JsonObject } from "#json/json.ts";
import { isAbsent, pointerTo, type JsonPatchOperation } from "./json-patch.ts";
import {
  isEmptyTerm,
  labelOf,
  labelsOf,
  listOf,
  nodeAffinityOf,
  requiredField,
  requiredTermsOf,
} from "./node-affinity.ts";

const preferredField = "preferredDuringSchedulingIgnoredDuringExecution";

/** The highest there is: what it costs to pull an image, other preferences seldom make good. */
const preferredWeight = 100;

/** Each label goes into each term that a pod has. One with too many of both is not changed. */
const maxAdditions = 1_024;

/** Whether a pod can be bound to nodes where so many labels are `available`. */
export function canRequire(pod: JsonObject, labels: number): boolean {
  return (
    nodeAffinityOf(pod) !== undefined &&
    (requiredTermsOf(pod)?.length ?? 1) * labels <= maxAdditions
  );
}

/**
 * Makes the operations after which a pod goes only to nodes where all labels of `required` are `available`,
 * and rather to those where all of `preferred` are.
 *
 * What the pod requires of nodes stays required: as a node has to fulfil only one of its terms, each of
 * them gets what it lacks. A term that asks for nothing is fulfilled by no node, and stays so. Applied to
 * its own result it makes no operation.
 */
export function affinityOperations(
  pod: JsonObject,
  { required, preferred }: { required: readonly string[]; preferred: readonly string[] },
): JsonPatchOperation[] {
  const affinity = nodeAffinityOf(pod);
  if (!affinity || required.length + preferred.length === 0) return [];
  const { pointer, value, wrap } = affinity;
  if (value) {
    return [
      ...requiredOperations(value, pointerTo(pointer, requiredField), required),
      ...preferredOperations(value, pointerTo(pointer, preferredField), preferred),
    ];
  }
  const made = {
    ...(required.length > 0 && { [requiredField]: { nodeSelectorTerms: [termOf(required)] } }),
    ...(preferred.length > 0 && { [preferredField]: [weightedTermOf(preferred)] }),
  };
  return [{ op: "add", path: pointer, value: wrap(made) }];
}

function requiredOperations(
  { [requiredField]: required }: JsonObject,
  pointer: string,
  labels: readonly string[],
): JsonPatchOperation[] {
  if (labels.length === 0) return [];
  if (isAbsent(required)) {
    return [{ op: "add", path: pointer, value: { nodeSelectorTerms: [termOf(labels)] } }];
  }
  const terms = isJsonObject(required) ? listOf(required["nodeSelectorTerms"]) : [];
  return terms.flatMap((term, index) =>
    isEmptyTerm(term)
      ? []
      : termOperations(term, pointerTo(pointer, "nodeSelectorTerms", index), labels),
  );
}

function preferredOperations(
  { [preferredField]: terms }: JsonObject,
  pointer: string,
  labels: readonly string[],
): JsonPatchOperation[] {
  if (labels.length === 0) return [];
  if (isAbsent(terms)) return [{ op: "add", path: pointer, value: [weightedTermOf(labels)] }];
  if (!Array.isArray(terms)) return [];
  // A container that came after the first admission: its label joins those that were added then.
  const own = terms.findIndex(isOwnTerm);
  if (own >= 0) {
    return termOperations(preferenceOf(terms[own]), pointerTo(pointer, own, "preference"), labels);
  }
  return [{ op: "add", path: pointerTo(pointer, "-"), value: weightedTermOf(labels) }];
}

function termOperations(
  term: unknown,
  pointer: string,
  labels: readonly string[],
): JsonPatchOperation[] {
  if (!isJsonObject(term)) return [];
  const path = pointerTo(pointer, "matchExpressions");
  const present = labelsOf(term);
  const missing = labels.filter((label) => !present.has(label)).map(requirementOf);
  if (missing.length === 0) return [];
  if (isAbsent(term["matchExpressions"])) return [{ op: "add", path, value: missing }];
  if (!Array.isArray(term["matchExpressions"])) return [];
  return missing.map((value) => ({ op: "add", path: pointerTo(path, "-"), value }));
}

/** Whether a preferred term is like those that Coral adds. */
function isOwnTerm(term: unknown): boolean {
  const preference = preferenceOf(term);
  if (!isJsonObject(term) || !isJsonObject(preference)) return false;
  const requirements = listOf(preference["matchExpressions"]);
  return (
    term["weight"] === preferredWeight &&
    Object.keys(preference).length === 1 &&
    requirements.length > 0 &&
    requirements.every((requirement) => isImageLabel(labelOf(requirement) ?? ""))
  );
}

function preferenceOf(term: unknown): unknown {
  return isJsonObject(term) ? term["preference"] : undefined;
}

function termOf(labels: readonly string[]): JsonObject {
  return { matchExpressions: labels.map(requirementOf) };
}

function weightedTermOf(labels: readonly string[]): JsonObject {
  return { weight: preferredWeight, preference: termOf(labels) };
}

function requirementOf(label: string): JsonObject {
  return { key: label, operator: "In", values: ["available"] };
}
