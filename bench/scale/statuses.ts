import type { Image } from "#api/v1/image.ts";

/** Whether an Image's status, of its newest spec, says that all `nodes` nodes hold all its images. */
export function isRight({ metadata, spec, status }: Image, nodes: number): boolean {
  if (!status || status.observedGeneration !== metadata.generation) return false;
  const { totalNodes, totalImages, condition, images = [], conditions = [] } = status;
  const wanted = spec.repositories.reduce((sum, { tags = [] }) => sum + tags.length, 0);
  return (
    totalNodes === nodes &&
    condition.available === nodes &&
    totalImages === wanted &&
    images.length === wanted &&
    images.every(({ available }) => available === nodes) &&
    conditions.some(({ type, status: is }) => type === "Ready" && is === "True")
  );
}
