import { hash } from "node:crypto";

import type { Clock } from "#async/clock.ts";
import type { Repository } from "#oci/reference.ts";
import type { Answer } from "./answer.ts";
import { parseChallenges, type Challenge } from "./challenge.ts";
import { mergeScopes } from "./scopes.ts";
import { isJsonObject, parseJson, textOf } from "#json/json.ts";
import type { Login } from "./keyring.ts";
import {
  RegistryError,
  refusalError,
  registryCode,
  type RegistryErrorCode,
} from "./registry-error.ts";
import type { Transport } from "./transport.ts";

/** Enough for the repositories of a large cluster; the oldest is forgotten first. */
const maxGrants = 1_000;

/** What a realm's answer has room for: a token goes into a header. */
const maxTokenAnswerBytes = 64 * 1024;

/** How long a token lasts whose realm does not say (distribution's token specification). */
const defaultLifetimeSeconds = 60;

/** However long a realm says that a token lasts. */
const maxLifetimeSeconds = 3_600;

/** The part of a token's life in which it is used: it must not end on the way. */
const usablePart = 0.9;

export interface AuthorizerOptions {
  readonly transport: Transport;
  readonly clock: Clock;
  /** Whether a host, as it stands in a URL, is one that speaks plain HTTP. */
  readonly isPlainHttp: (host: string) => boolean;
}

/** Who asks a registry for what. */
export interface Asking {
  readonly repository: Repository;
  /** Without one, for what everybody may have. */
  readonly login: Login | undefined;
  /** What a token is to be good for besides what the registry says; without, for reading. */
  readonly scopes?: readonly string[] | undefined;
  /** What is tried, for errors. */
  readonly act: string;
  readonly signal: AbortSignal;
}

interface Grant {
  readonly authorization: string;
  readonly endsAtMs: number;
}

/**
 * Answers what registries ask for before they tell anything.
 *
 * A password goes to the registry that it is for (`Basic`), or to the token realm that this registry
 * names (`Bearer`), if it speaks HTTPS or is known to speak plain HTTP. An identity token goes to
 * the realm alone.
 */
export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #grants = new Map<string, Grant>();

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  /** The `Authorization` header that served the same asker last, while it lasts. */
  known(asking: Asking): string | undefined {
    const grant = this.#grants.get(keyOf(asking));
    return grant && grant.endsAtMs > this.#nowMs() ? grant.authorization : undefined;
  }

  /** Forgets what was refused. */
  forget(asking: Asking): void {
    this.#grants.delete(keyOf(asking));
  }

  /**
   * Makes the `Authorization` header that a registry's answer of status 401 asks for.
   *
   * @throws {RegistryError} `DENIED` if there is no login to show, or the realm refuses it.
   */
  async authorize(refused: Answer, asking: Asking): Promise<string> {
    const challenges = parseChallenges(refused.header("www-authenticate") ?? "");
    const bearer = challenges.find(({ scheme }) => scheme === "bearer");
    const { login, act } = asking;
    if (bearer) return this.#remember(asking, await this.#fetchToken(bearer, asking));
    if (!challenges.some(({ scheme }) => scheme === "basic") || !login) {
      throw this.#refusal(refused, asking);
    }
    if ("identityToken" in login) {
      const reason = "it asks for user name and password, and the login is an identity token";
      throw new RegistryError("DENIED", reason, { act });
    }
    return this.#remember(asking, { authorization: basic(login), endsAtMs: Infinity });
  }

  /** Token by GET, or for an identity token by OAuth 2 (distribution's specifications of both). */
  async #fetchToken({ parameters }: Challenge, asking: Asking): Promise<Grant> {
    const { repository, login, scopes, act, signal } = asking;
    const url = this.#realm(parameters.get("realm"), act);
    const pull = `repository:${repository.path}:pull`;
    const stated = parameters.get("scope")?.split(" ") ?? (scopes ? [] : [pull]);
    const wanted = mergeScopes([...stated, ...(scopes ?? [])]);
    const service = parameters.get("service");
    const isOAuth = login !== undefined && "identityToken" in login;
    if (!isOAuth) {
      if (service !== undefined) url.searchParams.set("service", service);
      url.searchParams.delete("scope");
      for (const scope of wanted) url.searchParams.append("scope", scope);
    }
    const authorization = login && !isOAuth ? basic(login) : undefined;
    const limitBytes = maxTokenAnswerBytes;
    const answer = await this.#options.transport.send(
      isOAuth
        ? {
            method: "POST",
            url,
            authorization,
            headers: { "content-type": "application/x-www-form-urlencoded" },
            body: new URLSearchParams({
              grant_type: "refresh_token",
              client_id: "coral",
              refresh_token: login.identityToken,
              ...(service !== undefined && { service }),
              scope: wanted.join(" "),
            }).toString(),
            limitBytes,
          }
        : { method: "GET", url, authorization, limitBytes },
      { act, signal },
    );
    if (answer.status !== 200) throw this.#realmRefusal(answer, asking, authorization);
    return this.#parseToken(answer.body, act);
  }

  #realm(text: string | undefined, act: string): URL {
    const url = URL.parse(text ?? "");
    if (!url || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "") {
      throw new RegistryError("BAD_ANSWER", "it names no HTTP address as its token realm", { act });
    }
    if (url.protocol === "http:" && !this.#options.isPlainHttp(url.host)) {
      throw new RegistryError("NOT_ALLOWED", "its token realm does not speak HTTPS", { act });
    }
    return url;
  }

  #parseToken(body: Buffer, act: string): Grant {
    const answer = parseJson(body.toString());
    const {
      token,
      access_token: accessToken,
      expires_in: lifetime,
    } = isJsonObject(answer) ? answer : {};
    const text = textOf(token) || textOf(accessToken);
    if (!/^[\x21-\x7e]+$/.test(text)) {
      throw new RegistryError("BAD_ANSWER", "its token realm gives no token", { act });
    }
    const isLifetime = typeof lifetime === "number" && lifetime > 0;
    const seconds = Math.min(isLifetime ? lifetime : defaultLifetimeSeconds, maxLifetimeSeconds);
    const endsAtMs = this.#nowMs() + seconds * 1_000 * usablePart;
    return { authorization: `Bearer ${text}`, endsAtMs };
  }

  #realmRefusal(answer: Answer, asking: Asking, authorization: string | undefined): RegistryError {
    return this.#refusal(answer, asking, { authorization, who: "its token realm" }, (status) => {
      // OAuth 2 refuses a login with 400 (RFC 6749, 5.2). A realm that is not there is no image.
      if (status === 400 && authorization === undefined && asking.login) return "DENIED";
      return status === 404 ? "BAD_ANSWER" : registryCode(status);
    });
  }

  #refusal(
    { status, header, body }: Answer,
    { act, login }: Asking,
    by: { authorization?: string | undefined; who?: string } = {},
    codeOf?: (status: number) => RegistryErrorCode,
  ): RegistryError {
    const now = this.#options.clock.now();
    return refusalError(
      { status, retryAfter: header("retry-after"), body },
      { act, login, now, authorization: undefined, ...by },
      codeOf,
    );
  }

  #remember(asking: Asking, grant: Grant): string {
    const key = keyOf(asking);
    this.#grants.delete(key); // So that it becomes the newest.
    this.#grants.set(key, grant);
    const [oldest] = this.#grants.keys();
    if (this.#grants.size > maxGrants && oldest !== undefined) this.#grants.delete(oldest);
    return grant.authorization;
  }

  #nowMs(): number {
    return this.#options.clock.now().getTime();
  }
}

/** Without scopes, a repository's name is the scope of all that is asked: to pull from it. */
function keyOf({ repository: { registry, path }, login, scopes = [] }: Asking): string {
  const who = login ? hash("sha256", JSON.stringify(login)) : "anybody";
  return [`${registry}/${path}`, who, ...scopes].join(" ");
}

function basic(login: { readonly username: string; readonly password: string }): string {
  return `Basic ${Buffer.from(`${login.username}:${login.password}`).toString("base64")}`;
}
