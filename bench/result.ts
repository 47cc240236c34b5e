/** One figure held against its target. */
export interface Check {
  name: string;
  value: number;
  target: number;
  /** Which side of the target is good. */
  better: "lower" | "higher";
}

/** What a benchmark found. */
export interface BenchResult {
  /** Every figure, with its unit in its name: `crictlPullSeconds`. */
  figures: Readonly<Record<string, number>>;
  checks: readonly Check[];
}

/** A benchmark: it measures, and says on `report` what it is at. */
export type Bench = (options: {
  /** What stands after its name on the command line. */
  args: readonly string[];
  report: (line: string) => void;
  signal: AbortSignal;
}) => Promise<BenchResult>;

export function isMet({ value, target, better }: Check): boolean {
  return better === "lower" ? value <= target : value >= target;
}

/** The middle value; the mean of the two middle ones if their number is even. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) throw new RangeError("There must be a value");
  return (lower + upper) / 2;
}

/** Formats the table for people and, as the last line, one JSON object for programs. */
export function formatResult(bench: string, { figures, checks }: BenchResult): string {
  const rows = Object.entries(figures).map(([name, value]) => [name, format(value), "", ""]);
  for (const check of checks) {
    const sign = check.better === "lower" ? "≤" : "≥";
    const verdict = isMet(check) ? "ok" : "missed";
    rows.push([check.name, format(check.value), `${sign} ${check.target}`, verdict]);
  }
  const widths = [0, 1, 2].map((column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const table = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  const judged = checks.map((check) => ({ ...check, ok: isMet(check) }));
  return [...table, JSON.stringify({ bench, figures, checks: judged })].join("\n");
}

function format(value: number): string {
  return Number(value.toPrecision(4)).toString();
}
