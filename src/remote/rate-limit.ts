import { parseRetryAfter } from "./registry-error.ts";

/** What a registry has said of how often it may be asked, by one login. */
export interface RateState {
  /** Nothing is sent before: the registry asks to be left alone. */
  readonly heldUntilMs: number;
  /** Refusals in a row for having asked too often. */
  readonly refusals: number;
  /** How many requests more it grants before `resetsAtMs`; `Infinity` if it has not said. */
  readonly left: number;
  readonly resetsAtMs: number;
  /** When the window of `left` was first seen. */
  readonly windowSinceMs: number;
  /** When `left` was told. */
  readonly toldAtMs: number;
  /** Answers to requests from this number on were given after `left` was told. */
  readonly toldBefore: number;
  /** When it last answered without a refusal, or did not answer at all. */
  readonly heardAtMs: number;
}

/** What others should know of it too. */
export type Told = Pick<RateState, "heldUntilMs" | "left" | "resetsAtMs" | "toldAtMs">;

/** Of a registry that has said nothing. */
export const unlimited: RateState = {
  heldUntilMs: -Infinity,
  refusals: 0,
  left: Infinity,
  resetsAtMs: -Infinity,
  windowSinceMs: 0,
  toldAtMs: -Infinity,
  toldBefore: 0,
  heardAtMs: -Infinity,
};

/** Of a registry that has not been asked, and may have refused others: one request goes ahead alone. */
export function unasked(nowMs: number): RateState {
  return { ...unlimited, heldUntilMs: nowMs };
}

/** An answer as far as it tells something of limits. */
export interface LimitingAnswer {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  /** Whether it refuses because too much was asked. */
  readonly isThrottled: boolean;
  /** Number of the request that it answers, in the order of sending. */
  readonly request: number;
  /** Number that the next request gets. */
  readonly nextRequest: number;
}

/** Whether a request may be sent: at once, at a time, or once those on their way have been answered. */
export type Readiness = "go" | "after-answers" | { readonly untilMs: number };

/** How long a window lasts that the registry does not tell of. */
const unknownWindowMs = 60_000;

/** As long as Docker Hub counts. */
const maxWindowMs = 6 * 60 * 60_000;

/** What was told longer ago may no longer be so: others may use the same login. */
const maxAgeMs = 2_000;

const minHoldMs = 1_000;
const maxHoldMs = 60_000;

export interface ReadinessOptions {
  readonly nowMs: number;
  /** How many requests that count are on their way. */
  readonly pending: number;
  readonly counts: boolean;
  /** How many of those that are left are for this process. */
  readonly shareOf: (left: number) => number;
}

/**
 * Decides whether a request may be sent.
 *
 * After a wait, and when it was told too long ago how many requests are left, one goes ahead alone:
 * the others go by its answer.
 */
export function readinessOf(
  state: RateState,
  { nowMs, pending, counts, shareOf }: ReadinessOptions,
): Readiness {
  const { heldUntilMs, heardAtMs, resetsAtMs } = state;
  if (nowMs < heldUntilMs) return { untilMs: heldUntilMs };
  if (!counts) return "go";
  const isOver = nowMs >= resetsAtMs;
  const share = isOver ? Infinity : shareOf(state.left);
  if (share <= 0) return { untilMs: resetsAtMs };
  const isCurrent = isOver ? heardAtMs >= resetsAtMs : nowMs - heardAtMs <= maxAgeMs;
  const allowed = isCurrent && heardAtMs >= heldUntilMs ? share : 1;
  return pending < allowed ? "go" : "after-answers";
}

/**
 * Takes into account what an answer says: `Retry-After`, `RateLimit-…` in all forms that drafts of
 * the IETF gave it (Docker Hub has that of draft 3, with the window in `w`), and `X-RateLimit-…`.
 *
 * Where the registry says how many requests are left and not until when, the window is taken to have
 * begun when it was first seen: it then ends no earlier than it really does.
 *
 * @param random - in [0, 1): spreads clients that a registry refused without saying for how long.
 */
export function afterAnswer(
  state: RateState,
  answer: LimitingAnswer,
  { nowMs, random }: { nowMs: number; random: () => number },
): RateState {
  const limits = readLimits(answer.header, nowMs);
  const refusals = answer.isThrottled ? state.refusals + 1 : 0;
  const askedMs = parseRetryAfter(answer.header("retry-after"), new Date(nowMs));
  const isRefused = answer.isThrottled || answer.status === 503;
  let holdMs = isRefused ? askedMs : undefined;
  if (answer.isThrottled) holdMs ??= limits.resetMs ?? backoffMs(refusals, random);
  const askedUntilMs = holdMs === undefined ? -Infinity : nowMs + Math.min(holdMs, maxWindowMs);
  const heldUntilMs = Math.max(state.heldUntilMs, askedUntilMs);
  const heardAtMs = answer.isThrottled ? state.heardAtMs : nowMs;
  const next = { ...state, heldUntilMs, refusals, heardAtMs };
  if (limits.left === undefined) return next;
  const isOver = nowMs >= state.resetsAtMs;
  const isNewer = answer.request >= state.toldBefore;
  const left = isOver || isNewer ? limits.left : Math.min(state.left, limits.left);
  const isNewWindow = isOver || left > state.left;
  const windowSinceMs = isNewWindow ? nowMs : state.windowSinceMs;
  const endMs =
    limits.resetMs === undefined
      ? windowSinceMs + (limits.windowMs ?? unknownWindowMs)
      : nowMs + limits.resetMs;
  const resetsAtMs = Math.min(Math.max(endMs, nowMs + 1), nowMs + maxWindowMs);
  const { nextRequest: toldBefore } = answer;
  return { ...next, left, windowSinceMs, resetsAtMs, toldAtMs: nowMs, toldBefore };
}

/** Takes into account that a request was not answered. Who waits for its answer must not wait for ever. */
export function afterLoss(state: RateState, nowMs: number): RateState {
  return { ...state, heardAtMs: nowMs };
}

/**
 * Takes into account what somebody else was told, who uses the same login: never so that more may be
 * sent, and of what is left only what was told no earlier than what is known.
 */
export function afterHearsay(state: RateState, told: Told, nowMs: number): RateState {
  const latestMs = nowMs + maxWindowMs;
  const heldUntilMs = Math.max(state.heldUntilMs, Math.min(told.heldUntilMs, latestMs));
  const next = { ...state, heldUntilMs };
  const isOver = nowMs >= state.resetsAtMs;
  const isOutdated = !isOver && told.toldAtMs < state.toldAtMs;
  if (told.left === Infinity || nowMs >= told.resetsAtMs || isOutdated) return next;
  const toldAtMs = Math.min(told.toldAtMs, nowMs);
  return {
    ...next,
    left: isOver ? told.left : Math.min(state.left, told.left),
    resetsAtMs: Math.min(Math.max(state.resetsAtMs, told.resetsAtMs), latestMs),
    windowSinceMs: isOver ? nowMs : state.windowSinceMs,
    toldAtMs: Math.max(state.toldAtMs, toldAtMs),
    heardAtMs: Math.max(state.heardAtMs, toldAtMs),
  };
}

function backoffMs(refusals: number, random: () => number): number {
  const bound = Math.min(maxHoldMs, minHoldMs * 2 ** (refusals - 1));
  return Math.ceil(bound * (1 - random() / 2));
}

interface Limits {
  readonly left: number | undefined;
  /** Until there are more. */
  readonly resetMs: number | undefined;
  /** How long a window is. */
  readonly windowMs: number | undefined;
}

/** Reads the first form of limits that an answer has. */
function readLimits(header: (name: string) => string | undefined, nowMs: number): Limits {
  const seconds = (text: string | undefined): number | undefined => {
    const value = numberOf(text);
    return value === undefined ? undefined : value * 1_000;
  };
  const joined = header("ratelimit");
  if (joined !== undefined) {
    const policy = header("ratelimit-policy");
    return {
      left: numberOf(parameter(joined, "r") ?? parameter(joined, "remaining")),
      resetMs: seconds(parameter(joined, "t") ?? parameter(joined, "reset")),
      windowMs: seconds(parameter(policy, "w")),
    };
  }
  const remaining = header("ratelimit-remaining");
  if (remaining !== undefined) {
    return {
      left: numberOf(remaining),
      resetMs: seconds(header("ratelimit-reset")),
      windowMs: seconds(parameter(remaining, "w") ?? parameter(header("ratelimit-limit"), "w")),
    };
  }
  const reset = numberOf(header("x-ratelimit-reset"));
  // Some give the time since 1970, others the time from now.
  const isDate = reset !== undefined && reset > 1e9;
  return {
    left: numberOf(header("x-ratelimit-remaining")),
    resetMs: reset === undefined ? undefined : Math.max(reset * 1_000 - (isDate ? nowMs : 0), 0),
    windowMs: undefined,
  };
}

/** More of a header than any registry sends. */
const maxHeaderLength = 1_024;

function parameter(text: string | undefined, name: string): string | undefined {
  for (const part of (text ?? "").slice(0, maxHeaderLength).split(/[;,]/)) {
    const [key = "", value] = part.split("=", 2);
    if (key.trim().toLowerCase() === name) return value;
  }
  return undefined;
}

/** The whole number at the beginning of a text. */
function numberOf(text: string | undefined): number | undefined {
  const [, digits] = /^\s*(\d{1,15})(?!\d)/.exec(text ?? "") ?? [];
  return digits === undefined ? undefined : Number(digits);
}
