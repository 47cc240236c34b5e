import type { CopyFailure } from "#mirror/copy-result.ts";
import type { RepositoryResult } from "#mirror/run.ts";
import { adviceFor } from "./advice.ts";
import type { LocatedProblem } from "./mirror-file.ts";
import type { MirrorOutcome, PassResult, SizedTag } from "./mirror-pass.ts";

/** What a report tells besides the result. */
export interface ReportContext {
  readonly dryRun: boolean;
  readonly startedAt: Date;
  readonly durationMs: number;
}

/** Of the form of the report. Fields may be added to it without another number. */
const formVersion = 1;

/** Makes the report that programs read (`--report json`). Names and meanings of its fields stay. */
export function reportOf(
  { mirrors, totals, plannedBytes, isInterrupted }: PassResult,
  { dryRun, startedAt, durationMs }: ReportContext,
): object {
  return {
    version: formVersion,
    dryRun,
    interrupted: isInterrupted,
    startedAt: startedAt.toISOString(),
    seconds: durationMs / 1_000,
    totals: { ...totals, ...(dryRun && { plannedBytes }) },
    mirrors: mirrors.map(mirrorReport),
  };
}

/** Makes the report of files that cannot be used. */
export function problemReport(problems: readonly LocatedProblem[]): object {
  return { version: formVersion, problems };
}

function mirrorReport({ mirror, repositories }: MirrorOutcome): object {
  const { name, namespace, spec } = mirror;
  return {
    name,
    ...(namespace !== undefined && { namespace }),
    registry: spec.registry,
    repositories: repositories.map(({ source, target, tags, failure, sizeBytes }) => ({
      source,
      target,
      ...(sizeBytes !== undefined && { sizeBytes }),
      ...(failure && failureReport(failure, { source, target })),
      tags: tags.map((tag) => tagReport(tag, { source, target })),
    })),
  };
}

function tagReport(result: SizedTag, names: Pick<RepositoryResult, "source" | "target">): object {
  const { tag, bytesCopied, blobsCopied, blobsMounted, blobsSkipped, manifestsCopied } = result;
  const counts = { bytesCopied, blobsCopied, blobsMounted, blobsSkipped, manifestsCopied };
  switch (result.outcome) {
    case "copied":
    case "unchanged": {
      const { outcome, digest, digestDiffers } = result;
      return { tag, outcome, digest, digestDiffers, ...counts };
    }
    case "planned": {
      const { sizeBytes } = result;
      return { tag, outcome: "planned", ...(sizeBytes !== undefined && { sizeBytes }) };
    }
    case "failed":
    case "throttled":
      return { tag, ...failureReport(result, names), ...counts };
    default:
      return result satisfies never;
  }
}

function failureReport(
  failure: CopyFailure,
  names: Pick<RepositoryResult, "source" | "target">,
): object {
  const code = failure.outcome === "throttled" ? "THROTTLED" : failure.code;
  const { outcome, reason } = failure;
  const retryAfterMs = failure.outcome === "throttled" ? failure.retryAfterMs : undefined;
  return {
    outcome,
    code,
    reason,
    advice: adviceFor({ code, reason, ...names }),
    ...(retryAfterMs !== undefined && { retryAfterSeconds: Math.ceil(retryAfterMs / 1_000) }),
  };
}
