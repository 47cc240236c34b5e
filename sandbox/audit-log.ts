import { readFile } from "node:fs/promises";

import { isJsonObject } from "#kube/shape.ts";

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
}

/**
 * Reads the audit log of a sandbox: what Coral's service accounts asked of the API server. A watch is
 * noted when it starts and again when it ends, and counts once.
 */
export async function readAuditLog(file: string): Promise<AuditedRequest[]> {
  const requests = new Map<string, AuditedRequest>();
  for (const line of (await readFile(file, "utf8")).split("\n")) {
    if (!line) continue;
    const event: unknown = JSON.parse(line);
    if (!isJsonObject(event)) throw new TypeError("An audit event must be an object");
    const { auditID, verb, user, objectRef, responseStatus, requestReceivedTimestamp } = event;
    const target = isJsonObject(objectRef) ? objectRef : {};
    requests.set(textOf(auditID), {
      user: isJsonObject(user) ? textOf(user["username"]) : "",
      verb: textOf(verb),
      resource: [target["resource"], target["subresource"]].map(textOf).filter(Boolean).join("/"),
      code: isJsonObject(responseStatus) ? Number(responseStatus["code"]) : 0,
      time: Date.parse(textOf(requestReceivedTimestamp)),
    });
  }
  return [...requests.values()];
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
