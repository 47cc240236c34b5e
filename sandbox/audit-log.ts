import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";

import { isJsonObject, textOf } from "#json/json.ts";

/** One request that the API server noted in its audit log. */
export interface AuditedRequest {
  user: string;
  verb: string;
  /** Plural, with the subresource: `images/status`. */
  resource: string;
  /** HTTP status of the answer. */
  code: number;
  /** When it arrived, in milliseconds since the epoch. */
  time: number;
  /** When it was answered, or for a watch began to be. What a write changes is there from then on. */
  answeredMs: number;
}

/**
 * Reads the audit log of a sandbox: what Coral's service accounts asked of the API server. A watch is
 * noted when it starts and again when it ends, and counts once.
 */
export async function readAuditLog(file: string): Promise<AuditedRequest[]> {
  return Array.fromAsync(auditedRequests(file));
}

/**
 * Does what {@link readAuditLog} does, one request at a time: a thousand agents fill several files of
 * 100 MB. Oldest first, but for what was answered at the same time.
 */
export async function* auditedRequests(file: string): AsyncGenerator<AuditedRequest> {
  const watches = new Set<string>();
  for (const path of await filesOf(file)) {
    for await (const line of createInterface({ input: createReadStream(path) })) {
      if (!line) continue;
      const event: unknown = JSON.parse(line);
      if (!isJsonObject(event)) throw new TypeError("An audit event must be an object");
      const { auditID, verb, user, objectRef, responseStatus } = event;
      if (verb === "watch") {
        if (watches.has(textOf(auditID))) continue;
        watches.add(textOf(auditID));
      }
      const target = isJsonObject(objectRef) ? objectRef : {};
      yield {
        user: isJsonObject(user) ? textOf(user["username"]) : "",
        verb: textOf(verb),
        resource: [target["resource"], target["subresource"]].map(textOf).filter(Boolean).join("/"),
        code: isJsonObject(responseStatus) ? Number(responseStatus["code"]) : 0,
        time: Date.parse(textOf(event["requestReceivedTimestamp"])),
        answeredMs: Date.parse(textOf(event["stageTimestamp"])),
      };
    }
  }
}

/** The log and the full ones that the API server put aside: `audit-2026-01-31T12-00-00.000.log`. */
async function filesOf(file: string): Promise<string[]> {
  const prefix = `${basename(file, ".log")}-`;
  const full = (await readdir(dirname(file))).filter((name) => name.startsWith(prefix)).sort();
  return [...full.map((name) => join(dirname(file), name)), file];
}
