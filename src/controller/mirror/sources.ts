import {
  repositoryKey,
  DestinationError,
  destinationPath,
  parseDestination,
  type Destination,
} from "#api/v1/destination.ts";
import type { Mirror, MirrorSpec } from "#api/v1/mirror.ts";
import { InvalidReferenceError, parseRepository, type Repository } from "#oci/reference.ts";

/** What a Mirror takes of a repository. */
export type MirroredRepository = MirrorSpec["repositories"][number];

/** A repository that is to be copied. */
export interface Copy {
  /** In full: `docker.io/library/debian`. */
  readonly source: string;
  /** In full: `registry.example/docker.io/library/debian`. */
  readonly target: string;
  readonly repository: MirroredRepository;
}

/** A repository that is not copied. */
export interface Refusal {
  readonly reason: "InvalidSource" | "InvalidDestination" | "DestinationCollision";
  /** As the spec names it. */
  readonly source: string;
  /** To stand after the source: `must …`. */
  readonly message: string;
}

/** What becomes of the repositories that a Mirror names. */
export interface Sources {
  readonly copies: readonly Copy[];
  readonly refusals: readonly Refusal[];
}

/** As many as the schema allows. What a cluster stored may be older than its rules. */
const maxRepositories = 64;

/**
 * Works out what is copied to where. What makes no sense, and what would overwrite a repository that the same
 * Mirror writes or reads, is refused: of two that meet, the later one. Admission tells the same, but may have
 * been off.
 */
export function sourcesOf({ spec }: Pick<Mirror, "spec">): Sources {
  const copies: Copy[] = [];
  const refusals: Refusal[] = [];
  const refuse = (reason: Refusal["reason"], source: string, message: string): void => {
    refusals.push({ reason, source, message });
  };
  const destination = attempt(() => parseDestination(spec.registry));
  const read = readRepositories(spec, refuse);
  const sourceKeys = new Set(read.map(({ source }) => repositoryKey(source)));
  const byTarget = new Map<string, string>();
  for (const { source, repository } of read) {
    const name = formatRepository(source);
    const target = targetOf(source, destination, spec.destination);
    if ("problem" in target) {
      refuse("InvalidDestination", name, target.problem);
      continue;
    }
    const key = repositoryKey(target);
    const place = formatRepository(target);
    const first = byTarget.get(key);
    if (sourceKeys.has(key)) {
      refuse("DestinationCollision", name, `must not be copied to ${place}, which is copied from`);
    } else if (first !== undefined) {
      refuse("DestinationCollision", name, `must not be copied to ${place}, as ${first} is`);
    } else {
      byTarget.set(key, name);
      copies.push({ source: name, target: place, repository });
    }
  }
  return { copies, refusals };
}

interface NamedRepository {
  readonly source: Repository;
  readonly repository: MirroredRepository;
}

function readRepositories(
  { repositories }: MirrorSpec,
  refuse: (reason: Refusal["reason"], source: string, message: string) => void,
): NamedRepository[] {
  const known = new Set<string>();
  return repositories.slice(0, maxRepositories).flatMap((repository) => {
    const source = attempt(() => parseRepository(repository.name));
    if ("problem" in source) {
      refuse("InvalidSource", repository.name, source.problem);
      return [];
    }
    const key = repositoryKey(source);
    if (known.size === known.add(key).size) {
      refuse("DestinationCollision", repository.name, "must not be named twice");
      return [];
    }
    return [{ source, repository }];
  });
}

type Problem = { readonly problem: string };

function targetOf(
  source: Repository,
  destination: Destination | Problem,
  template: string,
): Repository | Problem {
  if ("problem" in destination)
    return { problem: `has nowhere to go: spec.registry ${destination.problem}` };
  const { registry } = destination;
  const path = attempt(() => ({ path: destinationPath(destination, source, template) }));
  if ("problem" in path) return { problem: `has nowhere to go: spec.destination ${path.problem}` };
  return { registry, path: path.path };
}

function attempt<T>(parse: () => T): T | Problem {
  try {
    return parse();
  } catch (error) {
    const isKnown = error instanceof InvalidReferenceError || error instanceof DestinationError;
    if (!isKnown) throw error;
    return { problem: error.reason };
  }
}

function formatRepository({ registry, path }: Repository): string {
  return `${registry}/${path}`;
}
