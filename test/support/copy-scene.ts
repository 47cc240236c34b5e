import { FakeRegistry, type FakeRepository } from "./fake-repository.ts";
import { BlobPool } from "#mirror/blob-pool.ts";
import { RepositoryCopy, type RepositoryCopyOptions } from "#mirror/copy.ts";

/** A source and a target without content. */
export interface CopyScene {
  source: FakeRepository;
  target: FakeRepository;
  /** Begins a run, which remembers nothing of those before. */
  start: (options?: Partial<RepositoryCopyOptions>) => RepositoryCopy;
}

export function aScene(signal: AbortSignal, { hasReferrersApi = true } = {}): CopyScene {
  const source = new FakeRegistry("source.test").repository("org/app");
  const target = new FakeRegistry("target.test", { hasReferrersApi }).repository("org/app");
  return {
    source,
    target,
    start: (options = {}) =>
      new RepositoryCopy({
        source,
        target: { repository: target, path: target.path },
        blobs: new BlobPool({ signal }),
        signal,
        ...options,
      }),
  };
}
