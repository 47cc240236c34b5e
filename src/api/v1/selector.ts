import { isImageLabel } from "./labels.ts";

/** Kubernetes' words for node affinity, their lower-case forms, and those of label selectors. */
export const operators = [
  "In",
  "NotIn",
  "Exists",
  "DoesNotExist",
  "Gt",
  "Lt",
  "in",
  "notin",
  "exists",
  "!",
  "=",
  "==",
  "!=",
  "gt",
  "lt",
] as const;

type Operator = (typeof operators)[number];
type Meaning = "in" | "notin" | "exists" | "!" | "=" | "!=" | "gt" | "lt";

const meanings: Record<Operator, Meaning> = {
  In: "in",
  NotIn: "notin",
  Exists: "exists",
  DoesNotExist: "!",
  Gt: "gt",
  Lt: "lt",
  in: "in",
  notin: "notin",
  exists: "exists",
  "!": "!",
  "=": "=",
  "==": "=",
  "!=": "!=",
  gt: "gt",
  lt: "lt",
};

/** Labels cannot begin with a dash, so there are no negative ones to compare with. */
const integerPattern = /^[0-9]{1,18}$/;

/** What a node's label must be for the node to be selected. */
export interface Requirement {
  readonly key: string;
  readonly operator: Operator;
  readonly values?: readonly string[];
}

/** How many values some operators take, for the API server and for us. */
export interface Arity {
  meanings: readonly Meaning[];
  message: string;
  /** In CEL over `size(values)` and, if there are any, `self.values`. */
  rule: string;
  accepts: (values: readonly string[]) => boolean;
}

/** Every operator has its meaning in exactly one of them. */
export const arities: readonly Arity[] = [
  {
    meanings: ["in", "notin"],
    message: "operators In and NotIn need at least one value",
    rule: "has(self.values) && size(self.values) > 0",
    accepts: (values) => values.length > 0,
  },
  {
    meanings: ["exists", "!"],
    message: "operators Exists and DoesNotExist take no values",
    rule: "!has(self.values) || size(self.values) == 0",
    accepts: (values) => values.length === 0,
  },
  {
    meanings: ["=", "!="],
    message: "operators =, == and != need exactly one value",
    rule: "has(self.values) && size(self.values) == 1",
    accepts: (values) => values.length === 1,
  },
  {
    meanings: ["gt", "lt"],
    message: "operators Gt and Lt need exactly one value, a whole number",
    rule: `has(self.values) && size(self.values) == 1 && self.values[0].matches('${integerPattern.source}')`,
    accepts: ([value, ...more]) =>
      value !== undefined && more.length === 0 && integerPattern.test(value),
  },
];

/** Lists the operators that an arity is about, in every spelling. */
export function operatorsOf(arity: Arity): Operator[] {
  return operators.filter((operator) => arity.meanings.includes(meanings[operator]));
}

/**
 * Whether labels fulfil every requirement; no requirements select everything.
 *
 * A requirement that makes no sense is fulfilled by nothing, so that a slip selects no node rather
 * than all of them; `selectorProblems` tells about it.
 */
export function matchesSelector(
  requirements: readonly Requirement[],
  labels: Readonly<Record<string, string>>,
): boolean {
  return requirements.every(
    (requirement) => keyProblemOf(requirement) === undefined && fulfils(labels, requirement),
  );
}

/** Whether labels fulfil a requirement, whosever labels they are; none fulfil one that makes no sense. */
export function fulfils(
  labels: Readonly<Record<string, string>>,
  requirement: Requirement,
): boolean {
  const label = Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined;
  return valueProblemOf(requirement) === undefined && matches(requirement, label);
}

/** Lists what is wrong with requirements, each with its place: `[0].values: …`. */
export function selectorProblems(requirements: readonly Requirement[]): string[] {
  return requirements.flatMap((requirement, index) => {
    const problem = keyProblemOf(requirement) ?? valueProblemOf(requirement);
    return problem === undefined ? [] : [`[${index}]${problem}`];
  });
}

function keyProblemOf({ key }: Requirement): string | undefined {
  if (key === "") return ".key: must name a node label";
  // Else a label could unselect the node that it stands for, and select it again, for ever.
  if (isImageLabel(key)) return ".key: must not be a label that Coral itself writes";
  return undefined;
}

function valueProblemOf({ operator, values = [] }: Requirement): string | undefined {
  // Asked although the type says so: what a cluster stored may be older than this program.
  const meaning: Meaning | undefined = meanings[operator];
  if (meaning === undefined) {
    return `.operator: must be one of ${operators.join(" ")}, got ${JSON.stringify(operator)}`;
  }
  const arity = arities.find((candidate) => candidate.meanings.includes(meaning));
  if (arity?.accepts(values)) return undefined;
  return `.values: ${arity?.message}, got ${JSON.stringify(values)}`;
}

function matches({ operator, values = [] }: Requirement, label: string | undefined): boolean {
  const meaning = meanings[operator];
  switch (meaning) {
    case "in":
    case "=":
      return label !== undefined && values.includes(label);
    case "notin":
    case "!=":
      return label === undefined || !values.includes(label);
    case "exists":
      return label !== undefined;
    case "!":
      return label === undefined;
    case "gt":
    case "lt": {
      if (label === undefined || !integerPattern.test(label)) return false;
      const difference = BigInt(label) - BigInt(values[0] ?? "");
      return meaning === "gt" ? difference > 0n : difference < 0n;
    }
    default:
      return meaning satisfies never;
  }
}
