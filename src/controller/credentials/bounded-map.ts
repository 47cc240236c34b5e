/** Puts an entry last, and forgets the oldest beyond the bound. */
export function putBounded<T>(
  map: Map<string, T>,
  key: string,
  { value, max }: { value: T; max: number },
): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > max && oldest !== undefined) map.delete(oldest);
}
