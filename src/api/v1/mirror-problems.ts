import {
  InvalidReferenceError,
  parseDigest,
  parseRepository,
  parseTag,
  type Repository,
} from "#oci/reference.ts";
import { parseGoDuration } from "#remote/go-duration.ts";
import { parseSchedule, ScheduleError } from "./cron.ts";
import {
  DestinationError,
  destinationsOf,
  parseDestination,
  repositoryKey,
} from "./destination.ts";
import type { Mirror, MirrorSpec } from "./mirror.ts";
import { filterProblems, invalid, secretNameProblems, type SpecProblem } from "./spec-problems.ts";

/** A repository that the spec names, and where. */
interface NamedSource {
  readonly path: string;
  readonly value: string;
  /** In full: `docker.io/library/debian`. */
  readonly full: string;
  /** The same for all names of one repository. */
  readonly key: string;
  /** Not there if its kind is foreign. */
  readonly repository?: Repository;
}

/**
 * Lists all that is wrong with a Mirror that has the form of one: what the rules of the CRD say, and what no
 * rule can, as that two sources would land on one name.
 *
 * @param options.isForeign - whether a name or registry is of a kind that somebody else looks at.
 */
export function mirrorProblems(
  { spec }: Pick<Mirror, "spec">,
  { isForeign = () => false }: { isForeign?: (text: string) => boolean } = {},
): SpecProblem[] {
  const { sources, problems } = readSources(spec, isForeign);
  return [
    ...(isForeign(spec.registry) ? [] : destinationProblems(spec, sources)),
    ...tlsProblems(spec),
    ...secretProblems(spec),
    ...problems,
    ...spec.repositories.flatMap(listProblems),
    ...filterProblems(spec.repositories),
    ...duplicateSources(sources),
    ...repeated("spec.platforms", spec.platforms ?? []),
    ...timingProblems(spec),
  ];
}

/** Parses a text, or says why that is not possible. */
function attempt<T>(
  path: string,
  value: string,
  parse: (text: string) => T,
): { parsed?: T; problems: SpecProblem[] } {
  try {
    return { parsed: parse(value), problems: [] };
  } catch (error) {
    const isKnown = error instanceof InvalidReferenceError || error instanceof DestinationError;
    if (!isKnown) throw error;
    return { problems: [invalid(path, value, error.reason)] };
  }
}

function readSources(
  { repositories }: MirrorSpec,
  isForeign: (text: string) => boolean,
): { sources: NamedSource[]; problems: SpecProblem[] } {
  if (repositories.length === 0) {
    return {
      sources: [],
      problems: [invalid("spec.repositories", "", "must name at least one repository")],
    };
  }
  const sources: NamedSource[] = [];
  const problems: SpecProblem[] = [];
  for (const [index, { name }] of repositories.entries()) {
    const path = `spec.repositories[${index}].name`;
    if (isForeign(name)) {
      sources.push({ path, value: name, full: name, key: name });
      continue;
    }
    const { parsed, problems: found } = attempt(path, name, parseRepository);
    problems.push(...found);
    if (!parsed) continue;
    const full = `${parsed.registry}/${parsed.path}`;
    sources.push({ path, value: name, full, key: repositoryKey(parsed), repository: parsed });
  }
  return { sources, problems };
}

function tlsProblems({ tls }: MirrorSpec): SpecProblem[] {
  if (!tls?.plainHTTP || !(tls.insecureSkipVerify || tls.caSecret)) return [];
  const message = "must go without caSecret and insecureSkipVerify";
  return [invalid("spec.tls.plainHTTP", "true", message)];
}

function secretProblems({ pushSecret, tls, imagePullSecrets }: MirrorSpec): SpecProblem[] {
  const named = [
    { path: "spec.tls.caSecret.name", name: tls?.caSecret?.name },
    { path: "spec.pushSecret.name", name: pushSecret?.name },
    ...imagePullSecrets.map(({ name }, index) => ({
      path: `spec.imagePullSecrets[${index}].name`,
      name,
    })),
  ];
  return [
    ...named.flatMap(({ path, name }) =>
      name === undefined ? [] : secretNameProblems(path, name),
    ),
    ...repeated(
      "spec.imagePullSecrets",
      imagePullSecrets.map(({ name }) => name),
      ".name",
    ),
  ];
}

/** What a list says twice. */
function repeated(path: string, values: readonly string[], field = ""): SpecProblem[] {
  const places = new Map<string, number>();
  return values.flatMap((value, index) => {
    const first = places.get(value);
    if (first === undefined) places.set(value, index);
    if (first === undefined) return [];
    const message = `must not be there again, as ${path}[${first}]${field} is`;
    return [{ kind: "duplicate", path: `${path}[${index}]${field}`, value, message }];
  });
}

function listProblems(
  { tags = [], digests = [], listSelection, filter }: MirrorSpec["repositories"][number],
  index: number,
): SpecProblem[] {
  const path = `spec.repositories[${index}]`;
  const isAll = listSelection === "all";
  const both = isAll && tags.length + digests.length > 0;
  return [
    ...tags.flatMap((tag, at) => attempt(`${path}.tags[${at}]`, tag, parseTag).problems),
    ...digests.flatMap(
      (digest, at) => attempt(`${path}.digests[${at}]`, digest, parseDigest).problems,
    ),
    ...repeated(`${path}.tags`, tags),
    ...repeated(`${path}.digests`, digests),
    ...(both ? [invalid(`${path}.listSelection`, "all", "must go without tags and digests")] : []),
    ...(!isAll && filter
      ? [invalid(`${path}.filter`, "", 'must go with listSelection "all"')]
      : []),
  ];
}

/** Repositories that are named twice, perhaps in ways that only look different. */
function duplicateSources(sources: readonly NamedSource[]): SpecProblem[] {
  const places = new Map<string, string>();
  return sources.flatMap(({ path, value, full, key }) => {
    const first = places.get(key);
    if (first === undefined) places.set(key, path);
    if (first === undefined) return [];
    return [
      { kind: "duplicate", path, value, message: `must not name ${full} again, as ${first} does` },
    ];
  });
}

/** A copy must overwrite neither another nor what is copied from. */
function destinationProblems(
  { registry, destination: template }: MirrorSpec,
  sources: readonly NamedSource[],
): SpecProblem[] {
  const { parsed, problems } = attempt("spec.registry", registry, parseDestination);
  if (!parsed) return problems;
  const repositories = sources.flatMap(({ repository }) => repository ?? []);
  const destinations = destinationsOf(parsed, repositories, template);
  const keys = new Set(sources.map(({ key }) => key));
  const advice = `: change spec.destination, which is ${JSON.stringify(template)}`;
  return [
    ...[...new Set(destinations.problems.values())].map((reason) =>
      invalid("spec.destination", template, reason),
    ),
    ...destinations.collisions.flatMap(({ path, sources: names }) => {
      const [first, ...others] = sources.filter(({ full }) => names.includes(full));
      const distinct = others.filter(({ key }) => key !== first?.key);
      const place = `${parsed.registry}/${path}`;
      const message = `must not be copied to ${place}, as ${first?.full} is${advice}`;
      return distinct.map((other) => invalid(other.path, other.value, message));
    }),
    ...sources.flatMap(({ path, value, full }) => {
      const target = destinations.paths.get(full);
      if (target === undefined) return [];
      if (!keys.has(repositoryKey({ registry: parsed.registry, path: target }))) return [];
      const place = `${parsed.registry}/${target}`;
      return [
        invalid(path, value, `must not be copied to ${place}, which is copied from${advice}`),
      ];
    }),
  ];
}

/** Shorter ones would keep workers and registries busy for nothing. */
const minIntervalMs = 60_000;

function timingProblems(spec: MirrorSpec): SpecProblem[] {
  const { interval, schedule, timeZone } = spec;
  const problems: SpecProblem[] = [];
  if (interval !== undefined && (parseGoDuration(interval) ?? 0) < minIntervalMs) {
    problems.push(invalid("spec.interval", interval, 'must be one minute at least, like "30m"'));
  }
  if (interval !== undefined && schedule !== undefined) {
    problems.push(invalid("spec.schedule", schedule, "must not be there together with interval"));
  }
  if (timeZone !== undefined && schedule === undefined) {
    problems.push(invalid("spec.timeZone", timeZone, "must go with schedule"));
  }
  return [...problems, ...scheduleProblems(spec)];
}

/** Both may be wrong, so each is looked at without the other. */
function scheduleProblems({ schedule, timeZone }: MirrorSpec): SpecProblem[] {
  const cases = [
    ...(schedule === undefined ? [] : [{ schedule, timeZone: "UTC" }]),
    ...(timeZone === undefined ? [] : [{ schedule: "@daily", timeZone }]),
  ];
  return cases.flatMap((each) => {
    try {
      parseSchedule(each.schedule, each.timeZone);
      return [];
    } catch (error) {
      if (!(error instanceof ScheduleError)) throw error;
      return [invalid(`spec.${error.field}`, each[error.field], error.reason)];
    }
  });
}
