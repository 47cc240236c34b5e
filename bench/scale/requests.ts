import type { AuditedRequest } from "#sandbox/audit-log.ts";

/** A part of the run, in milliseconds since the epoch. */
export interface Span {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** Requests of one span, by who asked for what. */
export class RequestCounts {
  /** By account, verb and resource: `coral-agent patch nodereports/status`. */
  readonly #counts = new Map<string, number>();
  writes = 0;
  /** Writes of agents, a part of {@link writes}. */
  agentWrites = 0;
  lists = 0;
  /** Renewals of leases, which are counted apart from writes. */
  leases = 0;
  /** Reviews and token requests: sent as writes, but nothing is stored. */
  reviews = 0;
  /** Writes that were refused: by admission, for a conflict, or to throttle. */
  refused = 0;
  /** When the last report was stored, in milliseconds since the epoch; 0 if none was. */
  lastReportMs = 0;

  add({ user, verb, resource, code, answeredMs }: AuditedRequest): void {
    const account = user.slice(user.lastIndexOf(":") + 1);
    const key = `${account} ${verb} ${resource}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    if (resource === "leases") {
      this.leases++;
    } else if (/reviews$|^serviceaccounts\/token$/.test(resource)) {
      this.reviews++;
    } else if (verb === "list") {
      this.lists++;
    } else if (writing.has(verb)) {
      this.writes++;
      if (code >= 400) this.refused++;
      else if (resource === "nodereports/status")
        this.lastReportMs = Math.max(this.lastReportMs, answeredMs);
      if (account === "coral-agent") this.agentWrites++;
    }
  }

  /** A line for each account, verb and resource, the most frequent first. */
  lines(): string[] {
    return [...this.#counts]
      .toSorted(([, a], [, b]) => b - a)
      .map(([key, count]) => `${String(count).padStart(8)}  ${key}`);
  }
}

const writing = new Set(["create", "update", "patch", "delete", "deletecollection"]);

/** Counts requests by the span in which they arrived. A name may stand for several spans. */
export async function countRequests(
  requests: AsyncIterable<AuditedRequest> | Iterable<AuditedRequest>,
  spans: readonly Span[],
): Promise<Map<string, RequestCounts>> {
  const counts = new Map(spans.map(({ name }) => [name, new RequestCounts()]));
  for await (const request of requests) {
    for (const { name, startMs, endMs } of spans) {
      if (request.time >= startMs && request.time < endMs) counts.get(name)?.add(request);
    }
  }
  return counts;
}
