import type { Clock } from "#async/clock.ts";
import type { Repository } from "#oci/reference.ts";
import type { Authorizer } from "./authorizer.ts";
import type { Login } from "./keyring.ts";
import { RegistryError, refusalError } from "./registry-error.ts";
import type { Answer, Transport } from "./transport.ts";

/** Where Docker Hub's registry really is. */
const hosts: ReadonlyMap<string, string> = new Map([["docker.io", "registry-1.docker.io"]]);

export interface RegistryCallOptions {
  readonly transport: Transport;
  readonly authorizer: Authorizer;
  readonly clock: Clock;
  readonly isPlainHttp: (host: string) => boolean;
  /** What is tried, like `resolve "ghcr.io/a/b:1"`. */
  readonly act: string;
  readonly repository: Repository;
  readonly logins: readonly Login[];
  readonly signal: AbortSignal;
}

export interface Wanted {
  readonly method: "GET" | "HEAD";
  readonly url: URL;
  readonly accept?: string;
  /** Largest body. */
  readonly limitBytes: number;
}

/** One act of a caller at one repository, with all requests that it takes. */
export class RegistryCall {
  readonly #options: RegistryCallOptions;
  /** The one that served moves to the front. */
  #logins: readonly (Login | undefined)[];

  constructor(options: RegistryCallOptions) {
    this.#options = options;
    this.#logins = options.logins.length > 0 ? options.logins : [undefined];
  }

  /** The address of something in the repository, like `manifests/latest`. */
  urlOf(what: string): URL {
    const { repository, isPlainHttp } = this.#options;
    const host = hosts.get(repository.registry) ?? repository.registry;
    const scheme = isPlainHttp(hostInUrl(host)) ? "http" : "https";
    return new URL(`${scheme}://${host}/v2/${repository.path}/${what}`);
  }

  /**
   * Sends a request with each login in turn, until one is not refused, or without any if there is
   * none.
   *
   * @throws {RegistryError} for every answer but one of success. If all logins are refused, it is
   * about the first: it is the most fitting.
   */
  async ask(wanted: Wanted): Promise<Answer> {
    const refusals: RegistryError[] = [];
    for (const login of this.#logins) {
      try {
        const answer = await this.#askAs(login, wanted);
        this.#logins = [login, ...this.#logins.filter((other) => other !== login)];
        return answer;
      } catch (error) {
        if (!(error instanceof RegistryError) || error.code !== "DENIED") throw error;
        refusals.push(error);
      }
    }
    throw refusals[0] ?? this.badAnswer("was not asked");
  }

  /** Makes the error for an answer that cannot be used: `what` stands after "it". */
  badAnswer(what: string): RegistryError {
    return new RegistryError("BAD_ANSWER", `it ${what}`, { act: this.#options.act });
  }

  /** Makes the error for an answer that leads where Coral does not go. */
  notAllowed(reason: string): RegistryError {
    return new RegistryError("NOT_ALLOWED", reason, { act: this.#options.act });
  }

  async #askAs(login: Login | undefined, wanted: Wanted): Promise<Answer> {
    const { transport, authorizer, clock, repository, act, signal } = this.#options;
    const { accept, ...request } = wanted;
    const asking = { repository, login, act, signal };
    const headers = accept === undefined ? {} : { accept };
    let authorization = authorizer.known(asking);
    let answer = await transport.send({ ...request, headers, authorization }, { act, signal });
    // Whom a registry redirects to may not ask for its logins.
    if (answer.status === 401 && answer.url.origin === wanted.url.origin) {
      authorization = await authorizer.authorize(answer, asking);
      answer = await transport.send({ ...request, headers, authorization }, { act, signal });
      if (answer.status === 401) authorizer.forget(asking);
    }
    if (answer.status >= 200 && answer.status < 300) return answer;
    const { status, body, header } = answer;
    const refusal = { status, body, retryAfter: header("retry-after") };
    throw refusalError(refusal, { act, login, authorization, now: clock.now() });
  }
}

/** A host as URLs have it: in lower case, and without the port that plain HTTP has anyway. */
export function hostInUrl(registry: string): string {
  return URL.parse(`http://${registry}`)?.host ?? registry;
}
