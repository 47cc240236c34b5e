import type { RegistryBudgetSpec } from "#api/v1/registry-budget.ts";
import type { Told } from "#remote/rate-limit.ts";

/** How many requests a worker has on their way at once: where no more are left, others should know. */
const requestsPerWorker = 16;

/** Shorter holds, and ends that differ by less, are over before others have heard of them. */
const minHoldMs = 1_000;

/** No budget says more of the future than this: as long as Docker Hub counts. */
const maxValidMs = 6 * 60 * 60_000;

/** How much a worker's clock may be ahead of this one's. */
const maxSkewMs = 60_000;

/** What others should hear: at once if they have to stop, else when it is convenient. */
export type News = "none" | "some" | "urgent";

/**
 * Decides whether others should hear what is known of a login.
 *
 * A registry that has not said anything, or grants more than the workers can use at once, is no news.
 *
 * @param shared - what others know already.
 */
export function newsOf(
  known: Told,
  shared: RegistryBudgetSpec | undefined,
  { nowMs, workers }: { nowMs: number; workers: number },
): News {
  const told = shared && toldBy(shared, nowMs);
  const heldUntilMs = Math.max(told?.heldUntilMs ?? nowMs, nowMs);
  if (known.heldUntilMs - heldUntilMs >= minHoldMs) return "urgent";
  const toldLeft = told && told.resetsAtMs > nowMs ? told.left : Infinity;
  const isLow = known.left <= requestsPerWorker * workers;
  if (known.resetsAtMs <= nowMs || !isLow || known.left >= toldLeft) return "none";
  return known.left === 0 ? "urgent" : "some";
}

/** Writes what is known of a login as others shall read it. What is over is left out. */
export function specOf(host: string, known: Told, nowMs: number): RegistryBudgetSpec {
  const { heldUntilMs, left, resetsAtMs, toldAtMs } = known;
  const isLimited = resetsAtMs > nowMs && left !== Infinity;
  return {
    host,
    ...(heldUntilMs > nowMs && { heldUntil: formatTime(heldUntilMs) }),
    ...(isLimited && { left, resetTime: formatTime(resetsAtMs) }),
    toldTime: formatTime(isLimited ? toldAtMs : nowMs),
  };
}

/** Reads what another worker was told; `undefined` if nothing of it holds any more, or never did. */
export function toldBy(spec: RegistryBudgetSpec, nowMs: number): Told | undefined {
  const endMs = endOf(spec, nowMs);
  if (endMs <= nowMs) return undefined;
  const { heldUntil, left = Infinity, resetTime, toldTime } = spec;
  return {
    heldUntilMs: Math.min(parseTime(heldUntil), endMs),
    left,
    resetsAtMs: Math.min(parseTime(resetTime), endMs),
    toldAtMs: parseTime(toldTime),
  };
}

/**
 * Until when something of a budget may hold, in milliseconds since 1970: never for longer than six hours.
 * What was told in a time that is yet to come never held.
 */
export function endOf(
  { heldUntil, resetTime, toldTime }: RegistryBudgetSpec,
  nowMs: number,
): number {
  const toldAtMs = parseTime(toldTime);
  if (toldAtMs > nowMs + maxSkewMs) return -Infinity;
  return Math.min(Math.max(parseTime(heldUntil), parseTime(resetTime)), toldAtMs + maxValidMs);
}

function formatTime(ms: number): string {
  return new Date(ms).toISOString();
}

/** What is no time is long ago. */
function parseTime(text: string | undefined): number {
  const ms = Date.parse(text ?? "");
  return Number.isNaN(ms) ? -Infinity : ms;
}
