import type { ContentTarget } from "#oci/content.ts";

/** A repository that is not there yet, for a dry run to compare with. Nobody writes to it. */
export function absentRepository(name: string): ContentTarget {
  const refuse = async (): Promise<never> => {
    throw new Error(`Nothing is written to ${name} in a dry run`);
  };
  return {
    name,
    find: async () => undefined,
    manifest: async () => undefined,
    async *tags() {},
    referrers: async () => [],
    blob: () => ({ [Symbol.asyncIterator]: () => ({ next: refuse }) }),
    hasBlob: async () => false,
    mountBlob: async () => false,
    writeBlob: refuse,
    putManifest: refuse,
    deleteManifest: async () => "absent",
  };
}
