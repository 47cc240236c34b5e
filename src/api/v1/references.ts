import {
  formatReference,
  InvalidReferenceError,
  parseDigest,
  parseRepository,
  parseTag,
  type Reference,
} from "#oci/reference.ts";
import type { Image } from "./image.ts";
import { maxReferences } from "./limits.ts";

/** An image that an Image asks for. */
export interface WantedReference {
  /** In its normalised form. */
  readonly reference: string;
  readonly priority: number;
}

/** A part of an Image that names nothing. */
export interface ReferenceProblem {
  /** The field, like `spec.repositories[0].tags[1]`. */
  readonly path: string;
  /** What stands there. */
  readonly value: string;
  /** What was expected, to stand after the value: `must …`. */
  readonly message: string;
}

/** Tells the tags that a repository with `listSelection: all` stands for; `undefined`: not known yet. */
export type ListedTags = (
  repository: Image["spec"]["repositories"][number],
) => readonly string[] | undefined;

/**
 * Lists the images that an Image asks for, each once, in the order of the spec. Of a repository with
 * `listSelection: all` it is the tags that `listed` tells.
 *
 * What cannot be parsed becomes a problem and the rest goes on: the API server refuses most of it,
 * but not what is only wrong once it is normalised, and rules may have changed since it was stored.
 */
export function referencesOf(
  { spec }: Image,
  listed: ListedTags = () => undefined,
): {
  references: WantedReference[];
  problems: ReferenceProblem[];
} {
  const references = new Set<string>();
  const problems: ReferenceProblem[] = [];

  function attempt<T>(path: string, value: string, parse: (text: string) => T): T | undefined {
    try {
      return parse(value);
    } catch (error) {
      if (!(error instanceof InvalidReferenceError)) throw error;
      problems.push({ path, value, message: error.reason });
      return undefined;
    }
  }

  for (const [index, repository] of spec.repositories.entries()) {
    const path = `spec.repositories[${index}]`;
    const { name, tags = [], digests = [], listSelection } = repository;
    const parsed = attempt(`${path}.name`, name, parseRepository);
    if (!parsed) continue;
    const want = (version: Pick<Reference, "tag" | "digest">): unknown =>
      references.add(formatReference({ ...parsed, ...version }));
    if (listSelection === "all") {
      for (const tag of listed(repository) ?? []) want({ tag });
      continue;
    }
    for (const [place, text] of tags.entries()) {
      const tag = attempt(`${path}.tags[${place}]`, text, parseTag);
      if (tag !== undefined) want({ tag });
    }
    for (const [place, text] of digests.entries()) {
      const digest = attempt(`${path}.digests[${place}]`, text, parseDigest);
      if (digest !== undefined) want({ digest });
    }
    if (tags.length + digests.length === 0) want({ tag: "latest" });
  }

  if (references.size > maxReferences) {
    const message = `must name at most ${maxReferences} images in all; the rest is left out`;
    problems.push({ path: "spec.repositories", value: `${references.size} images`, message });
  }
  const { priority } = spec;
  const wanted = [...references].slice(0, maxReferences);
  return { references: wanted.map((reference) => ({ reference, priority })), problems };
}
