import { filterTags, FilterTooSlowError } from "#api/v1/tag-filter.ts";
import { Deadline } from "#async/deadline.ts";
import type { Login } from "#remote/keyring.ts";
import { RegistryError } from "#remote/registry-error.ts";
import type { RepositorySpec } from "./listed-tags.ts";
import type { FoundImage, PlatformSize } from "./plan.ts";

/** Longest that one question may take, with all the pages and manifests that it leads to. */
const lookMs = 60_000;

/** The most time of the processor that a filter may take for the tags of one repository. */
const filterMs = 1_000;

/** Most tags of a repository that are looked through. */
const maxTags = 10_000;

interface AskOptions {
  /** The most fitting first. */
  logins: readonly Login[];
  signal: AbortSignal;
}

/** What a registry is asked. Implemented by `RegistryClient`. */
export interface RegistryLookup {
  resolve(reference: string, options: AskOptions): Promise<{ digest: string }>;
  sizes(
    reference: string,
    digest: string,
    options: AskOptions & { isWanted: (platform: string) => boolean },
  ): Promise<readonly PlatformSize[]>;
  tags(repository: string, options: AskOptions & { maxTags: number }): Promise<readonly string[]>;
}

/** What a reference names, and the platforms for which its sizes were asked. */
export interface SizedImage extends FoundImage {
  readonly platforms: ReadonlySet<string>;
}

/**
 * Asks what a reference names, and how large that is on some platforms.
 *
 * @param options.known - what it named before. While it does, only the sizes that are missing are read.
 * @param options.platforms - of the cluster's nodes, like `linux/arm64`.
 * @throws {RegistryError} if the registry does not tell within a minute.
 */
export async function lookUpImage(
  registry: RegistryLookup,
  reference: string,
  {
    known,
    platforms,
    logins,
    signal,
  }: AskOptions & { known: SizedImage | undefined; platforms: ReadonlySet<string> },
): Promise<SizedImage> {
  return inTime(signal, async (scope) => {
    const options = { logins, signal: scope };
    const { digest } = await registry.resolve(reference, options);
    const before = digest === known?.digest ? known : undefined;
    const missing = platforms.difference(before?.platforms ?? new Set());
    if (before && missing.size === 0) return before;
    const isWanted = (platform: string): boolean => missing.has(withoutVariant(platform));
    const sizes = await registry.sizes(reference, digest, { ...options, isWanted });
    return {
      digest,
      sizes: largestOf([...(before?.sizes ?? []), ...sizes]),
      platforms: platforms.union(before?.platforms ?? new Set()),
    };
  });
}

/**
 * Lists the tags of a repository that a filter takes.
 *
 * @throws {RegistryError} if the registry does not tell within a minute.
 * @throws {FilterTooSlowError} if the filter is not done with its tags in a second.
 */
export async function lookUpTags(
  registry: RegistryLookup,
  repository: string,
  { filter = {}, logins, signal }: AskOptions & Pick<RepositorySpec, "filter">,
): Promise<readonly string[]> {
  return inTime(signal, async (scope) => {
    const tags = await registry.tags(repository, { logins, maxTags, signal: scope });
    return filterTags(filter, tags, { budgetMs: filterMs, signal: scope });
  });
}

/** Why a registry did not tell. */
export interface LookupFailure {
  /** `NotFound`, `Denied` and so on. */
  readonly reason: string;
  /** The registry's own words. */
  readonly message: string;
  /** How long the registry asks to be left alone. */
  readonly retryAfterMs?: number;
}

/** As the agents call it when a pull meets the same. */
const reasons: Record<RegistryError["code"], string> = {
  NOT_FOUND: "NotFound",
  DENIED: "Denied",
  THROTTLED: "Throttled",
  UNREACHABLE: "Unreachable",
  BAD_ANSWER: "BadAnswer",
  NOT_ALLOWED: "NotAllowed",
};

/** Says what went wrong. @throws what is no fault of a registry or a filter. */
export function lookupFailure(error: unknown): LookupFailure {
  if (error instanceof FilterTooSlowError) {
    return { reason: "FilterTooSlow", message: error.message };
  }
  if (!(error instanceof RegistryError)) throw error;
  const { code, reason: message, retryAfterMs } = error;
  return { reason: reasons[code], message, ...(retryAfterMs !== undefined && { retryAfterMs }) };
}

async function inTime<T>(
  parent: AbortSignal,
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  using deadline = new Deadline(lookMs, parent);
  try {
    return await ask(deadline.signal);
  } catch (error) {
    if (!deadline.hasPassed) throw error;
    throw new RegistryError("UNREACHABLE", `no whole answer within ${lookMs / 1_000} s`);
  }
}

/** Nodes know no variants: of several, the largest counts. */
function largestOf(sizes: readonly PlatformSize[]): PlatformSize[] {
  const largest = new Map<string, number>();
  for (const { platform, sizeBytes } of sizes) {
    const name = withoutVariant(platform);
    largest.set(name, Math.max(largest.get(name) ?? 0, sizeBytes));
  }
  return [...largest].map(([platform, sizeBytes]) => ({ platform, sizeBytes }));
}

/** `linux/arm64/v8` → `linux/arm64`. */
function withoutVariant(platform: string): string {
  return platform.split("/").slice(0, 2).join("/");
}
