import { imageLabel, isImageLabel } from "#api/v1/labels.ts";
import type { ReportedImage } from "#api/v1/node-report.ts";

/** A Node must stay readable: more labels than these it does not get from Coral. */
const maxLabels = 500;

/** Names of images to remember; more than any cluster has, and a bound all the same. */
const maxRemembered = 65_536;

/** Makes an `imageLabel` that remembers: each of thousands of nodes has the same hundreds of images. */
export function rememberedLabels(): (reference: string) => string {
  const labels = new Map<string, string>();
  return (reference) => {
    const known = labels.get(reference);
    if (known !== undefined) return known;
    if (labels.size >= maxRemembered) labels.clear();
    const label = imageLabel(reference);
    labels.set(reference, label);
    return label;
  };
}

/** New value of each label that changes; `null` removes it. */
export type LabelChange = Readonly<Record<string, string | null>>;

/**
 * Works out how a node's labels must change so that each of `images` has one with its state.
 *
 * Labels of images that are not among them are removed. A key that merely looks like Coral's
 * (`image.stvz.io/team`) belongs to somebody else and is never touched.
 *
 * @param labelOf - names the label of a reference.
 * @returns `undefined` if they are right already.
 */
export function labelChange(
  labels: Readonly<Record<string, string>>,
  images: readonly Pick<ReportedImage, "reference" | "state">[],
  labelOf: (reference: string) => string = imageLabel,
): LabelChange | undefined {
  const wanted = new Map(
    images.slice(0, maxLabels).map(({ reference, state }) => [labelOf(reference), state]),
  );
  const change: Record<string, string | null> = {};
  for (const [key, state] of wanted) if (labels[key] !== state) change[key] = state;
  for (const key of Object.keys(labels)) {
    if (isImageLabel(key) && !wanted.has(key)) change[key] = null;
  }
  return Object.keys(change).length > 0 ? change : undefined;
}
