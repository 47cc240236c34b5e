import { readdir } from "node:fs/promises";

import { DestinationError, destinationPath, parseDestination } from "#api/v1/destination.ts";
import { LayoutError } from "#layout/layout-error.ts";
import { Layout } from "#layout/layout.ts";
import { outcomeOf } from "#mirror/copy-result.ts";
import type { MirrorTask, RepositoryResult } from "#mirror/run.ts";
import type { ContentSource, ContentTarget } from "#oci/content.ts";
import type { Repository } from "#oci/reference.ts";
import { absentRepository } from "./absent-repository.ts";
import type { FileMirror, LocatedProblem } from "./mirror-file.ts";
import {
  fullName,
  hostOf,
  layoutHost,
  layoutName,
  readSources,
  repositoryOf,
  type MirrorSource,
  type Refuse,
} from "./mirror-sources.ts";
import { isLayoutName, parseLayoutName, type LayoutPlace } from "./place.ts";

/** What a Mirror comes down to. */
export interface PlannedMirror {
  readonly mirror: FileMirror;
  readonly tasks: readonly MirrorTask[];
  /** Repositories that cannot even be asked for. */
  readonly unopened: readonly RepositoryResult[];
}

export interface PlanOptions {
  /** Opens a repository of a registry. */
  readonly open: (
    repository: Repository,
    options: { actions: "pull" | "pull,push"; signal: AbortSignal },
  ) => Promise<ContentTarget>;
  /** Whether to leave everything as it is. */
  readonly dryRun: boolean;
  /** Whether to look for new referrers of tags that are unchanged. */
  readonly referrersDue: boolean;
  readonly signal: AbortSignal;
}

/** Where a source is copied to. */
interface Target {
  readonly host: string;
  readonly path: string;
  readonly layout?: LayoutPlace;
}

interface Copy {
  readonly source: MirrorSource;
  readonly target: Target;
}

/**
 * Finds out what Mirrors come down to: it opens the layouts, names the destinations, and finds sources that
 * would overwrite one another, of whatever Mirror.
 *
 * @returns nothing planned if there are problems. Registries are asked for nothing.
 */
export async function planMirrors(
  mirrors: readonly FileMirror[],
  options: PlanOptions,
): Promise<{ planned: PlannedMirror[]; problems: LocatedProblem[] }> {
  const problems: LocatedProblem[] = [];
  const owners = new Map<string, { source: string; place: string }>();
  const pairs: { mirror: FileMirror; copies: Copy[] }[] = [];
  for (const mirror of mirrors) {
    const refuse: Refuse = (path, value, message) => {
      problems.push(mirror.locate({ path, value, message }));
    };
    const copies: Copy[] = [];
    for (const source of await readSources(mirror, refuse, options)) {
      const target = targetOf(source, mirror, refuse);
      if (!target) continue;
      const place = `${source.path} of Mirror "${mirror.name}"`;
      const [from, to] = [identityOf(source), `${target.host}/${target.path}`];
      const owner = owners.get(to) ?? { source: from, place };
      owners.set(to, owner);
      if (from === to) {
        refuse(
          source.path,
          source.value,
          "must not be copied to where it is: change spec.registry",
        );
      } else if (owner.source !== from) {
        const message = `must not be copied to ${to}, as ${owner.place} is: change spec.destination`;
        refuse(source.path, source.value, message);
      } else copies.push({ source, target });
    }
    pairs.push({ mirror, copies });
  }
  const planned: PlannedMirror[] = [];
  const layouts = new Layouts();
  for (const { mirror, copies } of problems.length > 0 ? [] : pairs) {
    planned.push({ mirror, ...(await openAll(mirror, copies, { layouts, problems }, options)) });
  }
  return { planned: problems.length > 0 ? [] : planned, problems };
}

/** A source by a name that only it has. */
function identityOf(source: MirrorSource): string {
  const repository = repositoryOf(source);
  return source.origin.kind === "registry"
    ? fullName(source.origin.repository)
    : `${hostOf(source)}/${repository ? fullName(repository) : ""}`;
}

function targetOf(source: MirrorSource, { spec }: FileMirror, refuse: Refuse): Target | undefined {
  const { registry, destination: template } = spec;
  const repository = repositoryOf(source);
  if (isLayoutName(registry)) {
    const { folder } = parseLayoutName(registry);
    const layout = { folder, ...(repository && { repository }) };
    return { host: layoutHost(layout), path: repository ? fullName(repository) : "", layout };
  }
  if (!repository && template.includes("{")) {
    const message = `must be a name without {…}: the layout "${source.value}" does not say what its images are called`;
    refuse("spec.destination", template, message);
    return undefined;
  }
  const destination = parseDestination(registry);
  // Where the template has none of its parts, the source's name does not matter.
  const named = repository ?? { registry: "localhost", path: "x" };
  try {
    return { host: destination.registry, path: destinationPath(destination, named, template) };
  } catch (error) {
    if (!(error instanceof DestinationError)) throw error;
    refuse("spec.destination", template, error.reason);
    return undefined;
  }
}

async function openAll(
  mirror: FileMirror,
  copies: readonly Copy[],
  { layouts, problems }: { layouts: Layouts; problems: LocatedProblem[] },
  options: PlanOptions,
): Promise<Pick<PlannedMirror, "tasks" | "unopened">> {
  const tasks: MirrorTask[] = [];
  const unopened: RepositoryResult[] = [];
  for (const copy of copies) {
    try {
      tasks.push(await openTask(copy, layouts, options));
    } catch (error) {
      options.signal.throwIfAborted();
      if (error instanceof LayoutError) {
        const message = `must be an OCI layout or an empty folder: ${error.reason}`;
        problems.push(
          mirror.locate({ path: "spec.registry", value: mirror.spec.registry, message }),
        );
        break;
      }
      unopened.push({ ...namesOf(copy), tags: [], failure: outcomeOf(error) });
    }
  }
  return { tasks, unopened };
}

function namesOf({ source, target }: Copy): { source: string; target: string } {
  const { origin } = source;
  return {
    source: origin.kind === "layout" ? layoutName(origin.layout) : fullName(origin.repository),
    target: target.layout ? layoutName(target.layout) : `${target.host}/${target.path}`,
  };
}

async function openTask(
  { source, target }: Copy,
  layouts: Layouts,
  { open, dryRun, referrersDue, signal }: PlanOptions,
): Promise<MirrorTask> {
  const { origin, selection } = source;
  const from =
    origin.kind === "layout"
      ? await layouts.source(origin.layout)
      : await open(origin.repository, { actions: "pull", signal });
  const { host, path, layout } = target;
  const repository = layout
    ? await openTarget(layout, layouts, dryRun)
    : await open({ registry: host, path }, { actions: dryRun ? "pull" : "pull,push", signal });
  return {
    source: from,
    target: { repository, path },
    hosts: { source: hostOf(source), target: host, parties: [from.name] },
    selection,
    referrersDue,
  };
}

async function openTarget(
  layout: LayoutPlace,
  layouts: Layouts,
  dryRun: boolean,
): Promise<ContentTarget> {
  if (!dryRun) return layouts.target(layout, { create: true });
  const names = await readdir(layout.folder).catch(() => []);
  return names.length > 0
    ? layouts.target(layout, { create: false })
    : absentRepository(layoutName(layout));
}

/** Opens each layout once, however many of its repositories are wanted. */
class Layouts {
  readonly #opened = new Map<string, Promise<Layout>>();

  async source(place: LayoutPlace): Promise<ContentSource> {
    const layout = await this.#open(place, { create: false });
    return layout.source(nameIn(place));
  }

  async target(place: LayoutPlace, options: { create: boolean }): Promise<ContentTarget> {
    const layout = await this.#open(place, options);
    return layout.repository(nameIn(place));
  }

  #open(place: LayoutPlace, options: { create: boolean }): Promise<Layout> {
    const key = `${layoutHost(place)} ${options.create}`;
    const opening = this.#opened.get(key) ?? Layout.open(place.folder, options);
    this.#opened.set(key, opening);
    return opening;
  }
}

function nameIn({ repository }: LayoutPlace): string | undefined {
  return repository && fullName(repository);
}
