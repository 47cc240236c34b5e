import type { SentLogin } from "./login.ts";

export interface QuotaOptions {
  /** How many requests of one login a window has room for. */
  limit: number;
  /** How long a window lasts. It begins with the first request after the last one. */
  windowSeconds: number;
  /** Says nothing of what is left, only how long to wait when nothing is. */
  isSilent?: boolean;
}

/** What becomes of one request. */
export interface Ticket {
  isGranted: boolean;
  /** For the answer: those of Docker Hub. */
  headers: Record<string, string>;
  /** Makes as if the request had not been sent. */
  giveBack(): void;
}

interface Window {
  left: number;
  readonly endMs: number;
}

/** Counts requests as registries do that limit them: so many for each login in a window of time. */
export class Quota {
  readonly #options: QuotaOptions;
  readonly #windows = new Map<string, Window>();

  constructor(options: QuotaOptions) {
    this.#options = options;
  }

  /** Counts one request. @param who - see {@link subjectOf}. */
  take(who: string, nowMs: number): Ticket {
    const { limit, windowSeconds, isSilent = false } = this.#options;
    const known = this.#windows.get(who);
    const isNew = !known || nowMs >= known.endMs;
    const window = isNew ? { left: limit, endMs: nowMs + windowSeconds * 1_000 } : known;
    this.#windows.set(who, window);
    const isGranted = window.left > 0;
    if (isGranted) window.left--;
    return {
      isGranted,
      headers: {
        ...(!isSilent && {
          "ratelimit-limit": `${limit};w=${windowSeconds}`,
          "ratelimit-remaining": `${window.left};w=${windowSeconds}`,
        }),
        ...(!isGranted && { "retry-after": `${Math.ceil((window.endMs - nowMs) / 1_000)}` }),
      },
      giveBack() {
        if (isGranted) window.left++;
      },
    };
  }
}

/** Whom a request is counted for: its user, however he shows who he is. */
export function subjectOf(login: SentLogin | undefined): string {
  if (!login) return "anybody";
  if (login.scheme !== "bearer") return login.username ?? login.secret;
  const [, claims = ""] = login.secret.split(".");
  const [, subject] = /"sub":"([^"]+)"/.exec(Buffer.from(claims, "base64url").toString()) ?? [];
  return subject ?? "anybody";
}
