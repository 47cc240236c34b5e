import type { Log } from "#telemetry/log.ts";

/** What the work queue should do with a key that was reconciled without an error. */
export type Result = { readonly requeueAfterMs?: number };

export interface ReconcileContext {
  log: Log;
  signal: AbortSignal;
}

/**
 * Brings the world one step nearer to what one object asks for. Throwing requeues the key with
 * backoff, except for a `TerminalError`, which waits for the object to change.
 */
export type Reconcile = (key: string, context: ReconcileContext) => Promise<Result>;

/** Nothing more to do until something changes. */
export const settled: Result = {};

/** A key failed in a way that only a change of its object can mend: it is not tried again. */
export class TerminalError extends Error {
  override readonly name = "TerminalError";
  readonly code = "TERMINAL";
  readonly retryable = false;
}
