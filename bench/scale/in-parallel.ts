import { Semaphore } from "#async/semaphore.ts";

/** Does something with each item, so many at a time, and returns the results in the items' order. */
export async function inParallel<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<R>,
  { signal }: { signal: AbortSignal },
): Promise<R[]> {
  const slots = new Semaphore(limit);
  return Promise.all(
    items.map(async (item) => {
      using _slot = await slots.acquire({ signal });
      return work(item);
    }),
  );
}
