import type { SpecProblem } from "#api/v1/spec-problems.ts";

/** What admission says of an object. */
export interface Verdict {
  /** All that keeps it out, at once. None: it is let in. */
  readonly faults: readonly SpecProblem[];
  /** What its author may not have meant. */
  readonly warnings: readonly string[];
}

/**
 * Leaves out what was said of what an update replaces, so that an object from before a rule can still be
 * changed, and be let go of.
 */
export function withoutKnown({ faults, warnings }: Verdict, before: Verdict): Verdict {
  const known = new Set(before.warnings);
  return {
    faults: without(faults, before.faults),
    warnings: warnings.filter((warning) => !known.has(warning)),
  };
}

/** Leaves out as many faults of a kind as there were before, wherever in a list they now stand. */
function without(faults: readonly SpecProblem[], before: readonly SpecProblem[]): SpecProblem[] {
  const known = new Map<string, number>();
  for (const fault of before) known.set(identityOf(fault), (known.get(identityOf(fault)) ?? 0) + 1);
  return faults.filter((fault) => {
    const left = known.get(identityOf(fault)) ?? 0;
    known.set(identityOf(fault), left - 1);
    return left <= 0;
  });
}

function identityOf({ kind, path, value }: SpecProblem): string {
  return JSON.stringify([kind, path.replaceAll(/\[\d+\]/g, "[]"), value]);
}
