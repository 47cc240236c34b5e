import { mirrorProblems } from "#api/v1/mirror-problems.ts";
import { runAnnotation, type Mirror } from "#api/v1/mirror.ts";
import { invalid, type SpecProblem } from "#api/v1/spec-problems.ts";
import { mirrorWarnings } from "./mirror-warnings.ts";
import { withoutKnown, type Verdict } from "./verdict.ts";

/** What a MirrorShard, which carries it on, may hold. */
const maxRunChars = 256;

/**
 * Validates a Mirror that has passed its schema and rules, for the API server asks webhooks last: what is
 * wrong only once names are spelled out, and what no rule can say. Whether another Mirror writes to the same
 * place is told in its status.
 *
 * @param previous - what an update replaces. Faults and warnings that it had are not told again, so
 *   that a Mirror from before a rule can still be changed, and be let go of.
 */
export function validateMirror(mirror: Mirror, previous?: Mirror): Verdict {
  const verdict = verdictOf(mirror);
  return previous ? withoutKnown(verdict, verdictOf(previous)) : verdict;
}

function verdictOf(mirror: Mirror): Verdict {
  const faults = [...mirrorProblems(mirror), ...runProblems(mirror)];
  return { faults, warnings: mirrorWarnings(mirror) };
}

function runProblems({ metadata: { annotations = {} } }: Mirror): SpecProblem[] {
  const run = annotations[runAnnotation] ?? "";
  if (run.length <= maxRunChars) return [];
  const message = `must have at most ${maxRunChars} characters, like a date`;
  return [invalid(`metadata.annotations[${runAnnotation}]`, run, message)];
}
