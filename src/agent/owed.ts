import { hash } from "node:crypto";

import type { ImagePlan, ImagePlanSpec } from "#api/v1/image-plan.ts";
import { matchesSelector, selectorProblems } from "#api/v1/selector.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import {
  formatReference,
  InvalidReferenceError,
  parseReference,
  type Reference,
} from "#oci/reference.ts";

/** What a NodeReport has room for. More than that is neither pulled nor reported. */
export const maxOwedImages = 1_000;

/** An image that a node is to have. */
export interface OwedImage {
  /** In its normalised form. */
  readonly reference: string;
  /** The registry it comes from, with port if it has one. */
  readonly host: string;
  /** The highest of the plans that name it. */
  readonly priority: number;
  /** Namespaces of the plans that name it, sorted. */
  readonly namespaces: readonly string[];
  /**
   * Stands for those plans, the generations of their Images and the state of their secrets: a change
   * of one of them changes it. A digest that becomes known does not.
   */
  readonly version: string;
  /**
   * What its tag is known to name: by the plan that follows the tag, if there is one, then by that of
   * the highest priority. A reference that has a digest names no other, and needs none here.
   */
  readonly digest?: string;
  /** Compressed size by platform, like `linux/arm64`. */
  readonly sizes: NonNullable<PlannedImage["sizes"]>;
  /** Whether a node that has another digest pulls again: one plan that says so is enough. */
  readonly followsTag: boolean;
  /** Keys of the plans that have logins for it. */
  readonly loginPlans: readonly string[];
  /** Keys of the plans that bound on how many nodes it is pulled at the same time. */
  readonly slotPlans: readonly string[];
}

type PlannedImage = ImagePlanSpec["images"][number];

/** What one plan says of an image. */
interface Wish {
  readonly key: string;
  readonly spec: ImagePlanSpec;
  readonly namespace: string;
  readonly version: string;
  readonly planned: PlannedImage;
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
  const wishes = new Map<string, { named: Reference; of: Wish[] }>();

  const byKey = plans.map((plan) => ({ plan, key: formatKey(keyOf(plan)) }));
  for (const { plan, key } of byKey.sort((a, b) => compare(a.key, b.key))) {
    const { metadata, spec } = plan;
    problems.push(...selectorProblems(spec.selector).map((text) => `${key}: selector${text}`));
    if (!matchesSelector(spec.selector, labels)) continue;
    const version = `${key}@${spec.imageGeneration ?? 0}.${spec.pullSecretsRevision ?? ""}`;
    versions.push(version);
    const seen = new Set<string>(); // Two spellings are one image.
    for (const planned of spec.images) {
      const named = parsed(planned.reference);
      if (!named) {
        problems.push(`${key}: ${JSON.stringify(planned.reference)} names no image`);
        continue;
      }
      const reference = formatReference(named);
      if (seen.has(reference)) continue;
      seen.add(reference);
      const known = wishes.get(reference) ?? { named, of: [] };
      known.of.push({ key, spec, namespace: metadata.namespace ?? "", version, planned });
      wishes.set(reference, known);
    }
  }

  const wanted = new Map<string, OwedImage>();
  for (const [reference, { named, of }] of wishes)
    wanted.set(reference, owed(reference, named, of));
  const images = bounded(wanted);
  if (images.size < wanted.size) {
    problems.push(`${wanted.size} images are asked for: only ${maxOwedImages} are looked after`);
  }
  return { images, observedPlan: hash("sha256", versions.join(" ")).slice(0, 16), problems };
}

function parsed(text: string): Reference | undefined {
  try {
    return parseReference(text);
  } catch (error) {
    if (error instanceof InvalidReferenceError) return undefined;
    throw error;
  }
}

/** Joins what plans say of one image. */
function owed(reference: string, { registry, digest }: Reference, wishes: Wish[]): OwedImage {
  const ranked = wishes.toSorted(
    (a, b) =>
      Number(followsTag(b)) - Number(followsTag(a)) ||
      b.spec.priority - a.spec.priority ||
      compare(a.key, b.key),
  );
  const keysOf = (field: "pullSecretsRevision" | "maxConcurrentNodes"): string[] =>
    wishes.filter(({ spec }) => spec[field] !== undefined).map(({ key }) => key);
  const followers = wishes.filter(followsTag);
  const expecting = followers.length > 0 ? ranked.filter(followsTag) : ranked;
  const expected = expecting.find(({ planned }) => planned.digest !== undefined)?.planned.digest;
  const isBounded = wishes.every(({ spec }) => spec.maxConcurrentNodes !== undefined);
  const isByTag = digest === undefined;
  return {
    reference,
    host: registry,
    priority: Math.max(...wishes.map(({ spec }) => spec.priority)),
    namespaces: [...new Set(wishes.map(({ namespace }) => namespace))].sort(),
    version: wishes.map(({ version }) => version).join(" "),
    ...(isByTag && expected !== undefined && { digest: expected }),
    sizes: ranked.find(({ planned }) => planned.sizes !== undefined)?.planned.sizes ?? [],
    followsTag: isByTag && followers.length > 0,
    loginPlans: keysOf("pullSecretsRevision"),
    // A bound is its author's own: it holds up nobody who set none.
    slotPlans: isBounded ? keysOf("maxConcurrentNodes") : [],
  };
}

function followsTag({ spec }: Wish): boolean {
  return spec.imagePullPolicy === "Always";
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
