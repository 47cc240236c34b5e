import type { ReportedImage } from "#api/v1/node-report.ts";

/** Sorts what a node reports by reference, each once: of two with one name the first counts. */
export function inOrder(images: readonly ReportedImage[]): readonly ReportedImage[] {
  const isInOrder = images.every(
    ({ reference }, place) => place === 0 || (images[place - 1]?.reference ?? "") < reference,
  );
  if (isInOrder) return images; // As agents write it.
  const sorted = images.toSorted((a, b) => compare(a.reference, b.reference));
  return sorted.filter(({ reference }, place) => sorted[place - 1]?.reference !== reference);
}

/** What a report in order says of a reference. */
export function reportedIn(
  images: readonly ReportedImage[],
  reference: string,
): ReportedImage | undefined {
  let [low, high] = [0, images.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((images[middle]?.reference ?? "") < reference) low = middle + 1;
    else high = middle;
  }
  const image = images[low];
  return image?.reference === reference ? image : undefined;
}

/** Yields what differs between two reports in order: before and after, either of which may be missing. */
export function* differences(
  before: readonly ReportedImage[],
  after: readonly ReportedImage[],
): Generator<[ReportedImage | undefined, ReportedImage | undefined]> {
  let [left, right] = [0, 0];
  while (left < before.length || right < after.length) {
    const [old, next] = [before[left], after[right]];
    const order = !old ? 1 : !next ? -1 : compare(old.reference, next.reference);
    if (order <= 0) left++;
    if (order >= 0) right++;
    if (order !== 0) yield order < 0 ? [old, undefined] : [undefined, next];
    else if (!isSame(old, next)) yield [old, next];
  }
}

function isSame(a: ReportedImage | undefined, b: ReportedImage | undefined): boolean {
  return (
    a === b ||
    (a?.state === b?.state &&
      a?.attempts === b?.attempts &&
      a?.reason === b?.reason &&
      a?.message === b?.message &&
      a?.digest === b?.digest &&
      a?.since === b?.since)
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
