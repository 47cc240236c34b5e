import { isJsonObject, type JsonObject } from "#json/json.ts";
import { isAbsent } from "./json-patch.ts";

export const requiredField = "requiredDuringSchedulingIgnoredDuringExecution";

/** What a pod says of nodes, and where it stands, or would. */
export interface NodeAffinity {
  /** JSON pointer to what is to be made if there is no `value`. */
  readonly pointer: string;
  readonly value?: JsonObject;
  /** Makes of a node affinity what belongs at `pointer`. */
  readonly wrap: (nodeAffinity: JsonObject) => JsonObject;
}

/** Reads what a pod says of nodes; `undefined` if it is malformed, as the API server will say. */
export function nodeAffinityOf({ spec }: JsonObject): NodeAffinity | undefined {
  if (!isJsonObject(spec)) return undefined;
  const { affinity } = spec;
  if (isAbsent(affinity)) return { pointer: "/spec/affinity", wrap: asAffinity };
  if (!isJsonObject(affinity)) return undefined;
  const { nodeAffinity } = affinity;
  const place = { pointer: "/spec/affinity/nodeAffinity", wrap: asItIs };
  if (isAbsent(nodeAffinity)) return place;
  return isJsonObject(nodeAffinity) ? { ...place, value: nodeAffinity } : undefined;
}

/** Lists the terms of which a pod's node must fulfil one; `undefined` if there are no terms to fulfil. */
export function requiredTermsOf(pod: JsonObject): readonly unknown[] | undefined {
  const required = nodeAffinityOf(pod)?.value?.[requiredField];
  if (isAbsent(required)) return undefined;
  return isJsonObject(required) ? listOf(required["nodeSelectorTerms"]) : [];
}

/** Whether a term asks for nothing: no node fulfils it (core/v1 NodeSelectorTerm). */
export function isEmptyTerm(term: unknown): boolean {
  if (!isJsonObject(term)) return true;
  return listOf(term["matchExpressions"]).length + listOf(term["matchFields"]).length === 0;
}

/** Lists the labels of nodes that a term wants to be `available`. */
export function labelsOf(term: unknown): ReadonlySet<string> {
  const requirements = isJsonObject(term) ? listOf(term["matchExpressions"]) : [];
  return new Set(requirements.flatMap((requirement) => labelOf(requirement) ?? []));
}

/** Names the label that a requirement wants to be `available`, if that is what it wants. */
export function labelOf(requirement: unknown): string | undefined {
  if (!isJsonObject(requirement)) return undefined;
  const { key, operator, values } = requirement;
  const wanted = listOf(values);
  const asks = operator === "In" && wanted.length === 1 && wanted[0] === "available";
  return asks && typeof key === "string" ? key : undefined;
}

/** Lists the labels that are `available` on every node that a pod may go to, by its own word. */
export function requiredLabelsOf(pod: JsonObject): ReadonlySet<string> {
  const terms = (requiredTermsOf(pod) ?? []).filter((term) => !isEmptyTerm(term)).map(labelsOf);
  const [first = new Set<string>(), ...others] = terms;
  return others.reduce((common, labels) => common.intersection(labels), first);
}

/** The list that a value is; an empty one if it is none. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function asAffinity(nodeAffinity: JsonObject): JsonObject {
  return { nodeAffinity };
}

function asItIs(nodeAffinity: JsonObject): JsonObject {
  return nodeAffinity;
}
