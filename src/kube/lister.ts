import type { ObjectKey } from "./key.ts";

export interface ListFilter {
  /** Labels that an object must have, with these values. */
  labels?: Readonly<Record<string, string>>;
  namespace?: string;
}

/** Reads an informer's cache. It never calls the API server and may be behind it. */
export interface Lister<T> {
  /** @param key - an `ObjectKey`, or its text as `formatKey` writes it. */
  get(key: string | ObjectKey): T | undefined;
  /** Objects are shared with the cache and frozen. */
  list(filter?: ListFilter): T[];
}
