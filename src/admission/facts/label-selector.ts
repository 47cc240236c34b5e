import type { ImagePolicySpec } from "#api/v1/image-policy.ts";
import { invalid, type SpecProblem } from "#api/v1/spec-problems.ts";

/** Labels of an object. */
export type Labels = Readonly<Record<string, string>>;

type LabelSelector = NonNullable<ImagePolicySpec["namespaceSelector"]>;
type Expression = NonNullable<LabelSelector["matchExpressions"]>[number];

const namePattern = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const prefixPattern = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;

/** Makes a matcher of a selector, as Kubernetes understands it: an empty one takes all. */
export function compileLabelSelector(selector: LabelSelector): (labels: Labels) => boolean {
  const { matchLabels = {}, matchExpressions = [] } = selector;
  const equal = Object.entries(matchLabels).map(([key, value]) => ({
    key,
    accepts: (label: string | undefined) => label === value,
  }));
  const others = matchExpressions.map((expression) => ({
    key: expression.key,
    accepts: compileExpression(expression),
  }));
  const all = [...equal, ...others];
  return (labels) => all.every(({ key, accepts }) => accepts(valueOf(labels, key)));
}

function compileExpression(expression: Expression): (label: string | undefined) => boolean {
  const { operator } = expression;
  const values = new Set(expression.values);
  switch (operator) {
    case "In":
      return (label) => label !== undefined && values.has(label);
    case "NotIn":
      return (label) => label === undefined || !values.has(label);
    case "Exists":
      return (label) => label !== undefined;
    case "DoesNotExist":
      return (label) => label === undefined;
    default:
      return operator satisfies never;
  }
}

/** No label is called `constructor` because every object has such a thing. */
function valueOf(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

/** Lists what is wrong with a selector, which no label can be. */
export function labelSelectorProblems(path: string, selector: LabelSelector): SpecProblem[] {
  const { matchLabels = {}, matchExpressions = [] } = selector;
  return [
    ...Object.entries(matchLabels).flatMap(([key, value]) => [
      ...keyProblems(`${path}.matchLabels`, key),
      ...valueProblems(`${path}.matchLabels[${key}]`, value),
    ]),
    ...matchExpressions.flatMap((expression, index) =>
      expressionProblems(`${path}.matchExpressions[${index}]`, expression),
    ),
  ];
}

function expressionProblems(path: string, expression: Expression): SpecProblem[] {
  const { key, operator, values = [] } = expression;
  const takesValues = operator === "In" || operator === "NotIn";
  const message = takesValues
    ? `must have at least one value for ${operator}`
    : `must have no values for ${operator}`;
  const isCounted = takesValues === values.length > 0;
  return [
    ...keyProblems(`${path}.key`, key),
    ...(isCounted ? [] : [invalid(`${path}.values`, values.join(","), message)]),
    ...values.flatMap((value, index) => valueProblems(`${path}.values[${index}]`, value)),
  ];
}

function keyProblems(path: string, key: string): SpecProblem[] {
  const [name = "", prefix, ...more] = key.split("/").toReversed();
  const isPrefix = prefix === undefined || (prefix.length <= 253 && prefixPattern.test(prefix));
  if (namePattern.test(name) && isPrefix && more.length === 0) return [];
  return [invalid(path, key, "must be the name of a label, like example.com/team")];
}

function valueProblems(path: string, value: string): SpecProblem[] {
  if (value === "" || namePattern.test(value)) return [];
  const message =
    'must be the value of a label: up to 63 letters, digits, "-", "_" and ".", with a letter or digit at both ends';
  return [invalid(path, value, message)];
}
