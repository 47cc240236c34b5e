import type { Image } from "#api/v1/image.ts";

/**
 * Tags that their owners move, by custom. A number alone, like `debian:12`, moves too, but so many
 * mean just that, and want it, that a warning would be noise.
 */
const movingTags = new Set([
  "latest",
  "stable",
  "edge",
  "main",
  "master",
  "nightly",
  "dev",
  "canary",
]);

/** More images than this on every node are worth a second thought. */
const manyReferences = 100;

/** Enough to see what is meant; each is a line on somebody's screen. */
const maxWarnings = 5;

/** The API server cuts a warning off after 256 characters. */
const maxWarningChars = 250;

/** Lists what the author of an Image may not have meant. None of it is a fault. */
export function imageWarnings(image: Image): string[] {
  const warnings = [...movingTagWarnings(image), ...listWarnings(image), ...sizeWarnings(image)];
  const left = warnings.length - maxWarnings;
  return [
    ...warnings.slice(0, maxWarnings),
    ...(left > 0 ? [`${left} more of its tags and lists are like these`] : []),
  ].map((warning) => warning.slice(0, maxWarningChars));
}

function movingTagWarnings({ spec: { repositories, imagePullPolicy } }: Image): string[] {
  if (imagePullPolicy === "Always") return []; // It is told to follow them.
  return repositories.flatMap(({ name, tags = [], digests = [], listSelection }, index) => {
    if (listSelection === "all") return [];
    const path = `spec.repositories[${index}]`;
    const moves =
      'and each node keeps what it pulls first; imagePullPolicy "Always" follows it, a digest pins it';
    if (tags.length + digests.length === 0) {
      return [`${path}: no tags means "latest", which its owner moves, ${moves}`];
    }
    return tags.flatMap((tag, place) =>
      movingTags.has(tag)
        ? [`${path}.tags[${place}]: "${shortened(name)}:${tag}" is moved by its owner, ${moves}`]
        : [],
    );
  });
}

function listWarnings({ spec: { repositories, imagePullPolicy } }: Image): string[] {
  if (imagePullPolicy !== "Always") return [];
  return repositories.flatMap(({ listSelection, filter }, index) => {
    if (listSelection !== "all") return [];
    const count = filter?.newest ?? 0;
    return [
      `spec.repositories[${index}].listSelection: "all" with imagePullPolicy "Always" asks the registry for up to ${count} tags again and again, which may use up its limits`,
    ];
  });
}

function sizeWarnings({ spec: { repositories } }: Image): string[] {
  const counts = repositories.map(({ tags = [], digests = [], listSelection, filter }) =>
    listSelection === "all" ? (filter?.newest ?? 0) : Math.max(tags.length + digests.length, 1),
  );
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total <= manyReferences) return [];
  return [`spec.repositories: up to ${total} images go to every selected node, and fill its disk`];
}

function shortened(name: string): string {
  return name.length > 60 ? `${name.slice(0, 60)}…` : name;
}
