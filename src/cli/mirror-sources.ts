import { resolve } from "node:path";

import { LayoutError } from "#layout/layout-error.ts";
import { Layout } from "#layout/layout.ts";
import type { TagSelection } from "#mirror/selection.ts";
import { parseRepository, type Repository } from "#oci/reference.ts";
import type { FileMirror } from "./mirror-file.ts";
import { isLayoutName, parseLayoutName, type LayoutPlace } from "./place.ts";

/** A repository that a Mirror copies from. */
export interface MirrorSource {
  /** Where the spec says so, like `spec.repositories[0].name`. */
  readonly path: string;
  /** What stands there. */
  readonly value: string;
  readonly origin:
    | { readonly kind: "registry"; readonly repository: Repository }
    | { readonly kind: "layout"; readonly layout: LayoutPlace };
  readonly selection: TagSelection;
}

/** Tells of a field of a Mirror, its value and what was expected. */
export type Refuse = (path: string, value: string, message: string) => void;

/** Lists what a Mirror copies from: of a layout by its folder alone, all repositories that it names. */
export async function readSources(
  { spec }: FileMirror,
  refuse: Refuse,
  { signal }: { signal: AbortSignal },
): Promise<MirrorSource[]> {
  const sources: MirrorSource[] = [];
  for (const [index, { name: value, ...selection }] of spec.repositories.entries()) {
    const common = { path: `spec.repositories[${index}].name`, value, selection };
    if (!isLayoutName(value)) {
      const repository = parseRepository(value);
      sources.push({ ...common, origin: { kind: "registry", repository } });
      continue;
    }
    try {
      for (const layout of await layoutsOf(parseLayoutName(value), { signal })) {
        if (typeof layout === "string") refuse(common.path, value, layout);
        else sources.push({ ...common, origin: { kind: "layout", layout } });
      }
    } catch (error) {
      if (!(error instanceof LayoutError)) throw error;
      refuse(common.path, value, `must be an OCI layout: ${error.reason}`);
    }
  }
  return sources;
}

/** @returns a text for what is wrong. */
async function layoutsOf(
  place: LayoutPlace,
  { signal }: { signal: AbortSignal },
): Promise<(LayoutPlace | string)[]> {
  const { folder, repository } = place;
  const held = await (await Layout.open(folder)).repositories({ signal });
  if (repository) {
    const isHeld = held.includes(fullName(repository));
    return [isHeld ? place : `must be one of those in the layout: ${listOf(held)}`];
  }
  // One that names no repositories is itself one.
  if (held.length === 0) return [place];
  return held.map((name) => ({ folder, repository: parseRepository(name) }));
}

function listOf(names: readonly string[]): string {
  if (names.length === 0) return "it names none";
  const shown = names.slice(0, 10).join(", ");
  return names.length > 10 ? `${shown} and ${names.length - 10} more` : shown;
}

/** Writes a repository's name in full. */
export function fullName({ registry, path }: Repository): string {
  return `${registry}/${path}`;
}

/** How a source is called: `undefined` for a layout that names no repositories. */
export function repositoryOf({ origin }: MirrorSource): Repository | undefined {
  return origin.kind === "registry" ? origin.repository : origin.layout.repository;
}

/** The host of a source; each layout is one of its own. */
export function hostOf({ origin }: MirrorSource): string {
  return origin.kind === "registry" ? origin.repository.registry : layoutHost(origin.layout);
}

/** A layout as the host of what it holds, whatever way leads there. */
export function layoutHost({ folder }: LayoutPlace): string {
  return `oci:${resolve(folder)}`;
}

/** Names a layout for people, as it was written. */
export function layoutName({ folder, repository }: LayoutPlace): string {
  return repository ? `oci:${folder}:${fullName(repository)}` : `oci:${folder}`;
}
