import { styleText } from "node:util";

import type { CopyFailure } from "#mirror/copy-result.ts";
import { summarize, type MirrorSummary } from "#mirror/run.ts";
import { adviceFor } from "./advice.ts";
import type { PassResult, SizedRepository } from "./mirror-pass.ts";
import { labelOf } from "./progress.ts";
import { formatTable, type Column } from "./table.ts";
import { formatBytes, formatDuration } from "./units.ts";

/** Failures that are shown one by one; the report has all. */
const maxFailures = 50;

export interface SummaryOptions {
  readonly dryRun: boolean;
  readonly durationMs: number;
  readonly isColored: boolean;
}

/** Writes what a pass has done, for people: a table, each failure with what to do, and a last line. */
export function formatSummary(result: PassResult, options: SummaryOptions): string {
  const repositories = result.mirrors.flatMap((each) => each.repositories);
  const failures = repositories.flatMap(failuresOf);
  const lines = [
    ...plannedLines(repositories),
    ...formatTable(columnsFor(options), rowsOf(repositories, options)),
    ...(failures.length > 0 ? [""] : []),
    ...failures.slice(0, maxFailures).flatMap((failure) => failureLines(failure, options)),
    ...(failures.length > maxFailures
      ? [`${failures.length - maxFailures} more: see --report json`]
      : []),
    ...repositories.filter(isEmpty).map(({ source }) => `note: ${source} ${emptyNote}`),
    "",
    lastLine(result, options),
  ];
  return `${lines.join("\n")}\n`;
}

/** A slip in a name looks like this, too: registries list no tags of what they do not have. */
const emptyNote = "has no tags that are asked for, or is not there";

function isEmpty({ tags, failure }: SizedRepository): boolean {
  return tags.length === 0 && !failure;
}

/** What a dry run is asked for. */
function plannedLines(repositories: readonly SizedRepository[]): string[] {
  const rows = repositories.flatMap(({ source, target, tags }) =>
    tags
      .filter(({ outcome }) => outcome === "planned")
      .map(({ tag, sizeBytes }) => [
        labelOf(source, tag),
        target,
        sizeBytes === undefined ? "unknown" : formatBytes(sizeBytes),
      ]),
  );
  if (rows.length === 0) return [];
  const columns: Column[] = [
    { head: "WOULD COPY", align: "left" },
    { head: "TO", align: "left" },
    { head: "SIZE", align: "right" },
  ];
  return [...formatTable(columns, rows), ""];
}

function columnsFor({ dryRun }: SummaryOptions): Column[] {
  const counts = [dryRun ? "TO COPY" : "COPIED", "UNCHANGED", "FAILED", "THROTTLED"];
  return [
    { head: "SOURCE", align: "left" },
    { head: "DESTINATION", align: "left" },
    ...[...counts, dryRun ? "SIZE" : "SENT"].map((head) => ({ head, align: "right" as const })),
  ];
}

function rowsOf(repositories: readonly SizedRepository[], { dryRun }: SummaryOptions): string[][] {
  return repositories.map((repository) => {
    const { source, target } = repository;
    const counts = summarize([repository]);
    const bytes = dryRun ? (repository.sizeBytes ?? 0) : counts.bytesCopied;
    return [source, target, ...cellsOf(counts, dryRun), formatBytes(bytes)];
  });
}

function cellsOf(
  { copied, planned, unchanged, failed, throttled }: MirrorSummary,
  dryRun: boolean,
): string[] {
  return [dryRun ? planned : copied, unchanged, failed, throttled].map(String);
}

interface NamedFailure {
  readonly name: string;
  readonly source: string;
  readonly target: string;
  readonly failure: CopyFailure;
}

function failuresOf({ source, target, tags, failure }: SizedRepository): NamedFailure[] {
  const found: NamedFailure[] = failure ? [{ name: source, source, target, failure }] : [];
  for (const result of tags) {
    if (result.outcome !== "failed" && result.outcome !== "throttled") continue;
    found.push({ name: labelOf(source, result.tag), source, target, failure: result });
  }
  return found;
}

function failureLines(
  { name, source, target, failure }: NamedFailure,
  { isColored }: SummaryOptions,
): string[] {
  const { outcome, reason } = failure;
  const code = outcome === "throttled" ? "THROTTLED" : failure.code;
  const word = paint(outcome === "throttled" ? "yellow" : "red", outcome, isColored);
  return [
    `${word} ${name}: ${code}: ${reason}`,
    `       ${adviceFor({ code, reason, source, target })}`,
  ];
}

function lastLine(
  { totals, plannedBytes, isInterrupted }: PassResult,
  { dryRun, durationMs, isColored }: SummaryOptions,
): string {
  const { copied, planned, unchanged, failed, throttled, bytesCopied } = totals;
  const took = formatDuration(durationMs);
  const counts = `${unchanged} unchanged, ${failed} failed, ${throttled} throttled`;
  const what = dryRun
    ? `${planned} to copy (at most ${formatBytes(plannedBytes)}), ${counts}; nothing was written, in ${took}`
    : `${copied} copied, ${counts}; ${formatBytes(bytesCopied)} sent in ${took}`;
  const isFine = failed + throttled === 0 && !isInterrupted;
  const line = paint(isFine ? "green" : "red", what, isColored);
  if (!isInterrupted) return line;
  return `${line}\nInterrupted. What is copied stays; run it again to go on from here.`;
}

function paint(color: "green" | "red" | "yellow", text: string, isColored: boolean): string {
  return isColored ? styleText(color, text, { validateStream: false }) : text;
}
