import type { SentLogin } from "./login.ts";
import type { QuotaOptions } from "./quota.ts";

/**
 * What goes wrong with requests to a registry. Each fault concerns the requests that it matches and
 * the first fault that matches a request is the one that happens.
 */
export type Fault = FaultMatch & FaultKind;

export interface FaultMatch {
  /** Host of the registry as in image names; without it every registry. */
  host?: string;
  method?: string;
  /** Regular expression over the path: `^/v2/hello/blobs/`. */
  path?: string;
  /** How often it happens before it is spent; without it for ever. */
  times?: number;
}

export type FaultKind =
  /** Nobody listens: connections are refused. Concerns whole registries, so it matches by `host` alone. */
  | { kind: "refuse" }
  /** The request is read and never answered. */
  | { kind: "silence" }
  /** The body comes slowly. */
  | { kind: "slow"; bytesPerSecond: number }
  /** Another answer than the registry's: 429 with `retry-after`, 503, 401. */
  | { kind: "status"; status: number; headers?: Record<string, string>; body?: string }
  /**
   * So many requests of each login in a window of time, then 429 with `retry-after`; 401 does not count.
   * Answers say what is left, as Docker Hub's do. Setting faults anew begins anew.
   */
  | ({ kind: "quota" } & QuotaOptions)
  /** The connection is reset after so many bytes of the body. */
  | { kind: "reset"; afterBytes: number }
  /** The body stops after so many bytes, and the connection stays open. */
  | { kind: "stall"; afterBytes: number }
  /** The body has wrong bytes. */
  | { kind: "corrupt" };

/** One request that reached a registry's address. */
export interface RequestRecord {
  /** When it came, in milliseconds since the epoch. */
  time: number;
  /** When its answer ended, or its connection was lost; not there while it goes on. */
  endTime?: number;
  /** Address that it came from: a node's own, or a pod's. */
  from: string;
  host: string;
  method: string;
  path: string;
  /** Who it said that it comes from; without it nobody. */
  login?: SentLogin;
  /** Answer's status; 0 while there was none. */
  status: number;
  /** Bytes of the answer's body so far. */
  sentBytes: number;
  /** Whether a fault happened to it. */
  fault?: FaultKind["kind"];
}

/** Picks the fault that happens to a request. */
export function findFault(
  faults: readonly Fault[],
  request: { host: string; method: string; path: string },
): Fault | undefined {
  return faults.find(
    ({ host, method, path, times }) =>
      (host ?? request.host) === request.host &&
      (method ?? request.method) === request.method &&
      (path === undefined || new RegExp(path).test(request.path)) &&
      (times === undefined || times > 0),
  );
}
