import { imageLabel, isImageLabel } from "#api/v1/labels.ts";
import type { ReportedImage } from "#api/v1/node-report.ts";

/** A Node must stay readable: more labels than these it does not get from Coral. */
const maxLabels = 500;

/** New value of each label that changes; `null` removes it. */
export type LabelChange = Readonly<Record<string, string | null>>;

/**
 * Works out how a node's labels must change so that each of `images` has one with its state.
 *
 * Labels of images that are not among them are removed. A key that merely looks like Coral's
 * (`image.stvz.io/team`) belongs to somebody else and is never touched.
 *
 * @returns `undefined` if they are right already.
 */
export function labelChange(
  labels: Readonly<Record<string, string>>,
  images: readonly Pick<ReportedImage, "reference" | "state">[],
): LabelChange | undefined {
  const wanted = new Map(
    images.slice(0, maxLabels).map(({ reference, state }) => [imageLabel(reference), state]),
  );
  const change: Record<string, string | null> = {};
  for (const [key, state] of wanted) if (labels[key] !== state) change[key] = state;
  for (const key of Object.keys(labels)) {
    if (isImageLabel(key) && !wanted.has(key)) change[key] = null;
  }
  return Object.keys(change).length > 0 ? change : undefined;
}
