import { fulfils, type Requirement } from "#api/v1/selector.ts";
import { isJsonObject, textOf, type JsonObject } from "#json/json.ts";
import { isAbsent } from "./json-patch.ts";
import type { NodeFact } from "./model.ts";
import { isEmptyTerm, labelOf, listOf, requiredTermsOf } from "./node-affinity.ts";

/** Of labels, values and tolerations together. Each is compared with each of thousands of nodes. */
const maxParts = 1_000;

/** What node affinity has (core/v1 NodeSelectorOperator). */
const operators = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] as const;

type Taint = NodeFact["taints"][number];
type Check = (node: NodeFact) => boolean;

/**
 * Makes a function that tells whether a node fits a pod: the node's labels are as the pod's node selector
 * and required affinity want them, and the pod tolerates its taints.
 *
 * In doubt a node does not fit: what is malformed selects none, and so does what would take too long.
 *
 * @param apartFrom - labels that count as `available` where the pod requires just that, as it does once
 *   they have been added to it. A pod then fits the same nodes before and after.
 */
export function fitsOf(
  pod: JsonObject,
  apartFrom: ReadonlySet<string> = new Set(),
): (node: NodeFact) => boolean {
  const spec = isJsonObject(pod["spec"]) ? pod["spec"] : {};
  const nodeName = textOf(spec["nodeName"]);
  if (nodeName !== "") return ({ name }) => name === nodeName; // No scheduler is asked.

  const terms = requiredTermsOf(pod);
  const tolerations = listOf(spec["tolerations"]);
  const isLong = partsOf(spec["nodeSelector"], terms) + tolerations.length > maxParts;
  const selects = isLong ? nothing : selectorCheck(spec["nodeSelector"]);
  const checks = isLong ? [] : terms?.map((term) => termCheck(term, apartFrom));
  return once(
    (node) =>
      selects(node) &&
      (checks === undefined || checks.some((check) => check(node))) &&
      node.taints.every((taint) => isHarmless(taint, tolerations)),
  );
}

/** The same nodes are asked about for each image of a pod. */
function once(fits: Check): Check {
  const known = new Map<NodeFact, boolean>();
  return (node) => {
    const isFit = known.get(node) ?? fits(node);
    known.set(node, isFit);
    return isFit;
  };
}

function partsOf(nodeSelector: unknown, terms: readonly unknown[] = []): number {
  const labels = isJsonObject(nodeSelector) ? Object.keys(nodeSelector).length : 0;
  return terms.flatMap(requirementsOf).reduce<number>((sum, requirement) => {
    const values = isJsonObject(requirement) ? listOf(requirement["values"]).length : 0;
    return sum + 1 + values;
  }, labels + terms.length);
}

function requirementsOf(term: unknown): readonly unknown[] {
  if (!isJsonObject(term)) return [];
  return [...listOf(term["matchExpressions"]), ...listOf(term["matchFields"])];
}

function selectorCheck(nodeSelector: unknown): Check {
  if (isAbsent(nodeSelector)) return everything;
  if (!isJsonObject(nodeSelector)) return nothing;
  const wanted = Object.entries(nodeSelector);
  return ({ labels }) =>
    wanted.every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}

function termCheck(term: unknown, apartFrom: ReadonlySet<string>): Check {
  if (!isJsonObject(term) || isEmptyTerm(term)) return nothing;
  const expressions = listOf(term["matchExpressions"])
    .filter((requirement) => !apartFrom.has(labelOf(requirement) ?? ""))
    .map(parseRequirement);
  const fields = listOf(term["matchFields"]).map(parseRequirement);
  return ({ name, labels }) =>
    expressions.every((requirement) => requirement && fulfils(labels, requirement)) &&
    fields.every((requirement) => requirement && fulfils({ "metadata.name": name }, requirement));
}

function parseRequirement(value: unknown): Requirement | undefined {
  if (!isJsonObject(value)) return undefined;
  const operator = operators.find((known) => known === value["operator"]);
  const values = listOf(value["values"]).filter((each) => typeof each === "string");
  return operator && { key: textOf(value["key"]), operator, values };
}

/** Whether a taint keeps a pod with these tolerations from no node (core/v1 Toleration). */
function isHarmless(taint: Taint, tolerations: readonly unknown[]): boolean {
  const repels = taint.effect === "NoSchedule" || taint.effect === "NoExecute";
  return !repels || tolerations.some((toleration) => tolerates(toleration, taint));
}

function tolerates(toleration: unknown, taint: Taint): boolean {
  if (!isJsonObject(toleration)) return false;
  const [effect, key] = [textOf(toleration["effect"]), textOf(toleration["key"])];
  if (effect !== "" && effect !== taint.effect) return false;
  if (key !== "" && key !== taint.key) return false;
  const operator = textOf(toleration["operator"]) || "Equal";
  if (operator === "Exists") return true;
  return operator === "Equal" && textOf(toleration["value"]) === (taint.value ?? "");
}

function everything(): boolean {
  return true;
}

function nothing(): boolean {
  return false;
}
