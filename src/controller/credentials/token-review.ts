import { hash } from "node:crypto";

import type { KubeClient } from "#kube/client.ts";
import { isJsonObject, type JsonObject } from "#json/json.ts";
import { putBounded } from "./bounded-map.ts";
import { NewTokens, type NewTokensOptions } from "./new-tokens.ts";
import {
  refusalOf,
  refusals,
  tokenAudience,
  type AgentAccount,
  type TokenRefusal,
} from "./token-claims.ts";

/** What a request's token says about who sent it. */
export type Caller =
  /** Coral's agent, on this node. */
  { readonly node: string } | TokenRefusal;

export interface TokenReviewerOptions extends AgentAccount, NewTokensOptions {
  client: Pick<KubeClient, "request">;
}

/** A bound service account token has about 1 KiB. */
const maxTokenBytes = 16 << 10;

/** How long a verdict counts. A token whose pod is gone is good for so long. */
const goodMs = 60_000;
const badMs = 5_000;

/** Verdicts kept: for two per node in the largest clusters. */
const maxVerdicts = 20_000;

/** How long a token that was good is known: longer than the kubelet keeps one (an hour). */
const knownMs = 2 * 3_600_000;

const reviewTimeoutMs = 5_000;
const path = "/apis/authentication.k8s.io/v1/tokenreviews";

interface Verdict {
  readonly caller: Caller;
  readonly untilMs: number;
}

/**
 * Tells who sent a request, by the API server's review of its bearer token.
 *
 * Only Coral's agent passes, and only with a token of audience `coral` that is bound to one node.
 * Tokens are neither kept nor logged: they are remembered by their hash. What cannot be an agent's
 * token by its own words is refused here. A flood of what can is held back before the API server, by
 * its sender, and does not hold back agents whose token was good before.
 */
export class TokenReviewer {
  readonly #options: TokenReviewerOptions;
  readonly #verdicts = new Map<string, Verdict>();
  readonly #knownUntilMs = new Map<string, number>();
  readonly #reviews = new Map<string, Promise<Caller>>();
  readonly #newTokens: NewTokens;

  constructor(options: TokenReviewerOptions) {
    this.#options = options;
    this.#newTokens = new NewTokens(options);
  }

  /** Tells who has sent this `Authorization` header from an address. Never throws. */
  async identify(authorization: string | undefined, remoteAddress: string): Promise<Caller> {
    const token = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(authorization ?? "")?.[1];
    if (token === undefined) return { status: 401, message: "a bearer token is needed" };
    if (token.length > maxTokenBytes) {
      return { status: 401, message: `the token must have at most ${maxTokenBytes} bytes` };
    }
    const key = hash("sha256", token);
    const nowMs = this.#nowMs();
    const verdict = this.#verdicts.get(key);
    // A clock that was set back must not make a verdict good for longer.
    const leftMs = verdict ? verdict.untilMs - nowMs : 0;
    if (verdict && leftMs > 0 && leftMs <= goodMs) return verdict.caller;
    const running = this.#reviews.get(key);
    if (running) return running;
    const refused = refusalOf(token, this.#options);
    if (refused) return refused;
    const isKnown = (this.#knownUntilMs.get(key) ?? 0) > nowMs;
    if (!isKnown && !this.#newTokens.tryTake(remoteAddress)) {
      return { status: 503, message: "too many new tokens, try again" };
    }
    // Whoever asks first may leave: the review has its own end.
    const review = this.#review(token, { key, remoteAddress }).finally(() => {
      this.#reviews.delete(key);
    });
    this.#reviews.set(key, review);
    return review;
  }

  async #review(
    token: string,
    { key, remoteAddress }: { key: string; remoteAddress: string },
  ): Promise<Caller> {
    const caller = callerOf(await this.#ask(token), this.#options);
    if ("status" in caller && caller.status === 503) return caller;
    const nowMs = this.#nowMs();
    const isGood = "node" in caller;
    const verdict = { caller, untilMs: nowMs + (isGood ? goodMs : badMs) };
    putBounded(this.#verdicts, key, { value: verdict, max: maxVerdicts });
    if (isGood) {
      putBounded(this.#knownUntilMs, key, { value: nowMs + knownMs, max: maxVerdicts });
      this.#newTokens.welcome(remoteAddress);
    } else {
      this.#knownUntilMs.delete(key);
    }
    return caller;
  }

  /** @returns the status of the review; `undefined` if there is no answer to go by. */
  async #ask(token: string): Promise<JsonObject | undefined> {
    const body = {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenReview",
      spec: { token, audiences: [tokenAudience] },
    };
    try {
      const { status, body: review } = await this.#options.client.request({
        method: "POST",
        path,
        body,
        timeoutMs: reviewTimeoutMs,
        signal: AbortSignal.any([]),
      });
      if (status !== 200 && status !== 201) return undefined;
      const verdict = isJsonObject(review) ? review["status"] : undefined;
      return isJsonObject(verdict) ? verdict : undefined;
    } catch {
      return undefined; // The client has counted it; its message would quote nothing of use.
    }
  }

  #nowMs(): number {
    return this.#options.clock.now().getTime();
  }
}

/** Reads the status of a TokenReview. `undefined` is a review that did not take place. */
export function callerOf(
  review: JsonObject | undefined,
  { namespace, serviceAccount }: AgentAccount,
): Caller {
  if (!review) return { status: 503, message: "the API server does not review tokens now" };
  const { authenticated, audiences, user } = review;
  const isOurs = Array.isArray(audiences) && audiences.includes(tokenAudience);
  if (authenticated !== true || !isOurs || !isJsonObject(user)) return refusals.invalid;
  const isAgent = user["username"] === `system:serviceaccount:${namespace}:${serviceAccount}`;
  if (!isAgent) return refusals.stranger;
  const extra = isJsonObject(user["extra"]) ? user["extra"] : {};
  const names: unknown = extra["authentication.kubernetes.io/node-name"];
  const [node, ...more]: unknown[] = Array.isArray(names) ? names : [];
  if (typeof node !== "string" || node === "" || more.length > 0) return refusals.unbound;
  return { node };
}
