import {
  InvalidReferenceError,
  parseDigest,
  parseRepository,
  parseTag,
  type Repository,
} from "#oci/reference.ts";
import type { Mirror, MirrorSpec } from "./mirror.ts";
import { tagFilterProblems } from "./tag-filter.ts";

/** Something that keeps a Mirror out. */
export interface MirrorProblem {
  readonly kind: "invalid" | "duplicate";
  /** The field, like `spec.repositories[0].tags[1]`. */
  readonly path: string;
  /** What stands there; empty if nothing does. */
  readonly value: string;
  /** What was expected, to stand after the value: `must …`. */
  readonly message: string;
}

/** Where a Mirror copies to. */
interface Destination {
  readonly registry: string;
  readonly prefix: string;
}

/** How the copies of a Mirror are named. */
export interface MirrorNaming {
  /** Parses `spec.registry`. @throws an error with what was expected as its `reason`. */
  parseDestination(registry: string): Destination;
  /** Names the copies of sources, by a template. */
  destinationsOf(
    destination: Destination,
    sources: readonly Repository[],
    template: string,
  ): {
    readonly collisions: readonly { readonly path: string; readonly sources: readonly string[] }[];
    /** Why there is no name for a source (`ghcr.io/a/b`). */
    readonly problems: ReadonlyMap<string, string>;
  };
  /** Whether a name or registry is of a kind that somebody else looks at. */
  readonly isForeign?: (text: string) => boolean;
}

/** A repository that the spec names, and where. */
interface NamedSource {
  readonly path: string;
  readonly value: string;
  /** In full: `docker.io/library/debian`. */
  readonly full: string;
  /** Not there if its kind is foreign. */
  readonly repository?: Repository;
}

/**
 * Lists all that is wrong with a Mirror that has the form of one: what the rules of the CRD say, and what no
 * rule can, as that two sources would land on one name.
 */
export function mirrorProblems(
  { spec }: Pick<Mirror, "spec">,
  naming: MirrorNaming,
): MirrorProblem[] {
  const { sources, problems } = readSources(spec, naming);
  return [
    ...registryProblems(spec, naming),
    ...tlsProblems(spec),
    ...secretProblems(spec),
    ...problems,
    ...spec.repositories.flatMap(listProblems),
    ...filterProblems(spec),
    ...duplicateSources(sources),
    ...destinationProblems(spec, sources, naming),
    ...repeated("spec.platforms", spec.platforms ?? []),
    ...timingProblems(spec),
  ];
}

function invalid(path: string, value: string, message: string): MirrorProblem {
  return { kind: "invalid", path, value, message };
}

/** Parses a text, or says why that is not possible. */
function attempt<T>(
  path: string,
  value: string,
  parse: (text: string) => T,
): { parsed?: T; problems: MirrorProblem[] } {
  try {
    return { parsed: parse(value), problems: [] };
  } catch (error) {
    const reason = reasonOf(error);
    if (reason === undefined) throw error;
    return { problems: [invalid(path, value, reason)] };
  }
}

function reasonOf(error: unknown): string | undefined {
  if (error instanceof InvalidReferenceError) return error.reason;
  if (!(error instanceof Error) || !("reason" in error)) return undefined;
  return typeof error.reason === "string" ? error.reason : undefined;
}

function readSources(
  { repositories }: MirrorSpec,
  { isForeign = () => false }: MirrorNaming,
): { sources: NamedSource[]; problems: MirrorProblem[] } {
  if (repositories.length === 0) {
    return {
      sources: [],
      problems: [invalid("spec.repositories", "", "must name at least one repository")],
    };
  }
  const sources: NamedSource[] = [];
  const problems: MirrorProblem[] = [];
  for (const [index, { name }] of repositories.entries()) {
    const path = `spec.repositories[${index}].name`;
    if (isForeign(name)) {
      sources.push({ path, value: name, full: name });
      continue;
    }
    const { parsed, problems: found } = attempt(path, name, parseRepository);
    problems.push(...found);
    if (!parsed) continue;
    const full = `${parsed.registry}/${parsed.path}`;
    sources.push({ path, value: name, full, repository: parsed });
  }
  return { sources, problems };
}

function registryProblems({ registry }: MirrorSpec, naming: MirrorNaming): MirrorProblem[] {
  if (naming.isForeign?.(registry)) return [];
  return attempt("spec.registry", registry, (text) => naming.parseDestination(text)).problems;
}

function tlsProblems({ tls }: MirrorSpec): MirrorProblem[] {
  if (!tls?.plainHTTP || !(tls.insecureSkipVerify || tls.caSecret)) return [];
  const message = "must go without caSecret and insecureSkipVerify";
  return [invalid("spec.tls.plainHTTP", "true", message)];
}

/** RFC 1123, as the API server wants the name of a Secret. */
const subdomainPattern = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;

function secretProblems({ pushSecret, tls, imagePullSecrets }: MirrorSpec): MirrorProblem[] {
  const named = [
    { path: "spec.tls.caSecret.name", name: tls?.caSecret?.name },
    { path: "spec.pushSecret.name", name: pushSecret?.name },
    ...imagePullSecrets.map(({ name }, index) => ({
      path: `spec.imagePullSecrets[${index}].name`,
      name,
    })),
  ];
  const message =
    'must be the name of a Secret: lower-case letters, digits, "-" and ".", with a letter or digit at both ends of each part';
  return [
    ...named.flatMap(({ path, name }) =>
      name === undefined || subdomainPattern.test(name) ? [] : [invalid(path, name, message)],
    ),
    ...repeated(
      "spec.imagePullSecrets",
      imagePullSecrets.map(({ name }) => name),
      ".name",
    ),
  ];
}

/** What a list says twice. */
function repeated(path: string, values: readonly string[], field = ""): MirrorProblem[] {
  return values.flatMap((value, index) => {
    const first = values.indexOf(value);
    if (first === index) return [];
    const message = `must not be there again, as ${path}[${first}]${field} is`;
    return [{ kind: "duplicate", path: `${path}[${index}]${field}`, value, message }];
  });
}

function listProblems(
  { tags = [], digests = [], listSelection, filter }: MirrorSpec["repositories"][number],
  index: number,
): MirrorProblem[] {
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

/** Each may take milliseconds to check, while everybody else waits. */
const maxExpressions = 64;

function filterProblems({ repositories }: MirrorSpec): MirrorProblem[] {
  const expressions = repositories.flatMap(({ filter: { include = [], exclude = [] } = {} }) => [
    ...include,
    ...exclude,
  ]);
  if (expressions.length > maxExpressions) {
    const message = `must have at most ${maxExpressions} regular expressions in all filters together`;
    return [invalid("spec.repositories", `${expressions.length} expressions`, message)];
  }
  return repositories.flatMap(({ filter = {} }, index) =>
    tagFilterProblems(filter).map(({ path, value, message }) =>
      invalid(`spec.repositories[${index}].filter${path}`, value, message),
    ),
  );
}

/** Repositories that are named twice, perhaps in ways that only look different. */
function duplicateSources(sources: readonly NamedSource[]): MirrorProblem[] {
  const places = new Map<string, string>();
  return sources.flatMap(({ path, value, full }) => {
    const first = places.get(full);
    if (first === undefined) places.set(full, path);
    if (first === undefined) return [];
    return [
      { kind: "duplicate", path, value, message: `must not name ${full} again, as ${first} does` },
    ];
  });
}

function destinationProblems(
  { registry, destination: template }: MirrorSpec,
  sources: readonly NamedSource[],
  naming: MirrorNaming,
): MirrorProblem[] {
  if (naming.isForeign?.(registry)) return [];
  const { parsed } = attempt("spec.registry", registry, (text) => naming.parseDestination(text));
  if (!parsed) return []; // Told as what it is.
  const repositories = sources.flatMap(({ repository }) => repository ?? []);
  const { collisions, problems } = naming.destinationsOf(parsed, repositories, template);
  const found = new Set(problems.values());
  return [
    ...[...found].map((reason) => invalid("spec.destination", template, reason)),
    ...collisions.flatMap(({ path, sources: names }) => {
      const [first, ...others] = sources.filter(({ full }) => names.includes(full));
      const distinct = others.filter(({ full }) => full !== first?.full);
      const place = `${parsed.registry}/${path}`;
      const message = `must not be copied to ${place}, as ${first?.full} is: change spec.destination, which is ${JSON.stringify(template)}`;
      return distinct.map((other) => invalid(other.path, other.value, message));
    }),
  ];
}

const cronField = /^[0-9A-Za-z*?/,#-]{1,64}$/;
const cronNames = ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"];

/** Looks at the form alone: whoever runs the schedule says whether it ever comes due. */
function timingProblems({ interval, schedule, timeZone }: MirrorSpec): MirrorProblem[] {
  const problems: MirrorProblem[] = [];
  if (interval !== undefined && !/[1-9]/.test(interval)) {
    problems.push(invalid("spec.interval", interval, 'must be longer than that, like "30m"'));
  }
  if (interval !== undefined && schedule !== undefined) {
    problems.push(invalid("spec.schedule", schedule, "must not be there together with interval"));
  }
  if (schedule !== undefined && !isCron(schedule)) {
    const message = `must be five fields of cron, like "0 3 * * *", or one of ${cronNames.join(", ")}`;
    problems.push(invalid("spec.schedule", schedule, message));
  }
  if (timeZone !== undefined && schedule === undefined) {
    problems.push(invalid("spec.timeZone", timeZone, "must go with schedule"));
  }
  if (timeZone !== undefined && !isTimeZone(timeZone)) {
    const message = 'must be the name of a time zone, like "Europe/Berlin"';
    problems.push(invalid("spec.timeZone", timeZone, message));
  }
  return problems;
}

function isCron(text: string): boolean {
  const fields = text.trim().split(/\s+/);
  if (fields.length === 1) return cronNames.includes(fields[0] ?? "");
  return fields.length === 5 && fields.every((field) => cronField.test(field));
}

function isTimeZone(text: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: text }).resolvedOptions().timeZone !== "";
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return false;
  }
}
