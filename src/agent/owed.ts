import { hash } from "node:crypto";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import { matchesSelector, selectorProblems } from "#api/v1/selector.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import { InvalidReferenceError, normalizeReference } from "#oci/reference.ts";

/** What a NodeReport has room for. More than that is neither pulled nor reported. */
export const maxOwedImages = 1_000;

/** An image that a node is to have. */
export interface OwedImage {
  /** In its normalised form. */
  readonly reference: string;
  /** The highest of the plans that name it. */
  readonly priority: number;
  /** Namespaces of the plans that name it, sorted. */
  readonly namespaces: readonly string[];
  /** Stands for those plans and their generations: a change of one of them changes it. */
  readonly version: string;
}

/** Everything that a node is to have. */
export interface Owed {
  readonly images: ReadonlyMap<string, OwedImage>;
  /** Stands for the plans that select the node, and their generations. */
  readonly observedPlan: string;
  /** What is wrong with plans, a line each. Whatever else they and others ask for is in `images`. */
  readonly problems: readonly string[];
}

/**
 * Works out what a node owes: the images of every plan whose selector fits its labels.
 *
 * A selector or a reference that makes no sense asks for nothing, and concerns nothing but itself.
 */
export function owedBy(
  plans: readonly ImagePlan[],
  labels: Readonly<Record<string, string>>,
): Owed {
  const problems: string[] = [];
  const versions: string[] = [];
  const wanted = new Map<string, OwedImage>();

  const byKey = plans.map((plan) => ({ plan, key: formatKey(keyOf(plan)) }));
  for (const { plan, key } of byKey.sort((a, b) => compare(a.key, b.key))) {
    const { selector, priority, images } = plan.spec;
    problems.push(...selectorProblems(selector).map((problem) => `${key}: selector${problem}`));
    if (!matchesSelector(selector, labels)) continue;
    const version = `${key}@${plan.metadata.generation ?? 0}`;
    versions.push(version);
    const namespace = plan.metadata.namespace ?? "";
    const references = new Set<string>();
    for (const { reference: text } of images) {
      const reference = normalized(text);
      if (reference === undefined) problems.push(`${key}: ${JSON.stringify(text)} names no image`);
      else references.add(reference);
    }
    for (const reference of references) {
      const image = { reference, priority, namespaces: [namespace], version };
      wanted.set(reference, combined(wanted.get(reference), image));
    }
  }

  const images = bounded(wanted);
  if (images.size < wanted.size) {
    problems.push(`${wanted.size} images are asked for: only ${maxOwedImages} are looked after`);
  }
  return { images, observedPlan: hash("sha256", versions.join(" ")).slice(0, 16), problems };
}

function normalized(text: string): string | undefined {
  try {
    return normalizeReference(text);
  } catch (error) {
    if (error instanceof InvalidReferenceError) return undefined;
    throw error;
  }
}

function combined(one: OwedImage | undefined, other: OwedImage): OwedImage {
  if (!one) return other;
  return {
    reference: one.reference,
    priority: Math.max(one.priority, other.priority),
    namespaces: [...new Set([...one.namespaces, ...other.namespaces])].sort(),
    version: `${one.version} ${other.version}`,
  };
}

/** Lets the namespaces choose in turn, so that none of them crowds the others out. */
function bounded(wanted: ReadonlyMap<string, OwedImage>): ReadonlyMap<string, OwedImage> {
  if (wanted.size <= maxOwedImages) return wanted;
  const turns = [...wanted.values()].flatMap((image) =>
    image.namespaces.map((namespace) => ({ image, namespace })),
  );
  const ranked = [...Map.groupBy(turns, ({ namespace }) => namespace).values()].flatMap((own) =>
    own.sort(byPriority).map(({ image }, rank) => ({ image, rank })),
  );
  const chosen = new Map<string, OwedImage>(); // Who else names an image cannot make its turn later.
  for (const { image } of ranked.sort((a, b) => a.rank - b.rank)) {
    if (chosen.size === maxOwedImages) break;
    chosen.set(image.reference, image);
  }
  return chosen;
}

function byPriority(
  { image: a }: { image: OwedImage },
  { image: b }: { image: OwedImage },
): number {
  return b.priority - a.priority || compare(a.reference, b.reference);
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
