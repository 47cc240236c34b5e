import type { RecordKeeping } from "#mirror/worker/shard-records.ts";
import { Ownership } from "./ownership.ts";
import { removeCopies } from "./removal.ts";

/** Keeps records at the destination, and removes what they say. */
export const recordKeeping: RecordKeeping<Ownership> = {
  read: (target, owner, options) => Ownership.read(target, owner, options),
  remove: removeCopies,
};
