import { fullJitter } from "#async/backoff.ts";
import type { Clock } from "#async/clock.ts";
import type { Repository } from "#oci/reference.ts";
import type { Answer } from "./answer.ts";
import type { Authorizer } from "./authorizer.ts";
import type { Budgets, Lane, Permit } from "./budget.ts";
import type { Login } from "./keyring.ts";
import { isThrottled, RegistryError, refusalError } from "./registry-error.ts";
import type { OpenAnswer, StreamedBody, Transport, TransportRequest } from "./transport.ts";

/** Where Docker Hub's registry really is. */
const dockerHub = "registry-1.docker.io";
const hosts: ReadonlyMap<string, string> = new Map([["docker.io", dockerHub]]);

/** Of what can be tried again: not for longer than a restart takes, for others wait. */
const maxAttempts = 5;
const minWaitMs = 250;
const maxWaitMs = 8_000;

/** How often a request is sent that the registry refuses as too many, each time after the wait it asks for. */
const maxThrottles = 10;

export interface RegistryCallOptions {
  readonly transport: Transport;
  readonly authorizer: Authorizer;
  readonly clock: Clock;
  readonly isPlainHttp: (host: string) => boolean;
  /** What is tried, like `resolve "ghcr.io/a/b:1"`. */
  readonly act: string;
  readonly repository: Repository;
  readonly logins: readonly Login[];
  /** What tokens are to be good for; if not given, for reading. */
  readonly scopes?: readonly string[];
  /** Without it, requests are sent at once, and nothing is tried again. */
  readonly patience?: Patience;
  readonly signal: AbortSignal;
}

/** How a registry is asked by who can wait. */
export interface Patience {
  readonly budgets: Budgets;
  readonly random: () => number;
  readonly onThrottled?: ((untilMs: number | undefined) => void) | undefined;
  /** Told which login served. */
  readonly onServed?: (login: Login) => void;
}

export interface Wanted {
  readonly method: TransportRequest["method"];
  readonly url: URL;
  readonly accept?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** One that is streamed can be sent once. */
  readonly body?: Buffer | StreamedBody;
  /** Whether 404 is an answer, and no error. */
  readonly mayBeAbsent?: boolean;
  /** Largest body of an answer. */
  readonly limitBytes: number;
  /** Whether it must not be sent again before somebody has looked what became of it. */
  readonly isOnce?: boolean;
  /** Whether it goes on with a stream that had its slot among the requests to the host. */
  readonly isResumed?: boolean;
}

/** A successful answer, the body of which is yet to come. */
export interface OpenedBody {
  readonly answer: OpenAnswer;
  /** What has arrived each time. Leaving the loop closes it. */
  readonly batches: AsyncIterable<readonly Buffer[]>;
  /** Lets go of a body that is not read. */
  close(): void;
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
    const { transport, act, signal } = this.#options;
    const { answer, permit } = await this.#repeat(wanted, (request) =>
      transport.send(request, { act, signal }),
    );
    permit?.[Symbol.dispose]();
    return answer;
  }

  /** As {@link ask}, but the answer's body is read by the caller. */
  async open(wanted: Wanted): Promise<OpenedBody> {
    const { transport, act, signal } = this.#options;
    const { answer, permit } = await this.#repeat(wanted, (request) =>
      transport.open(request, { act, signal }),
    );
    const { stream } = answer;
    return {
      answer,
      batches: stream ? transport.read(stream, { act, signal }, permit) : noBatches(),
      close() {
        stream?.close();
        permit?.[Symbol.dispose]();
      },
    };
  }

  /** Makes the error for an answer that cannot be used: `what` stands after "it". */
  badAnswer(what: string): RegistryError {
    return new RegistryError("BAD_ANSWER", `it ${what}`, { act: this.#options.act });
  }

  /** Whether a host, as it stands in a URL, is to be asked without HTTPS. */
  isPlainHttp(host: string): boolean {
    return this.#options.isPlainHttp(host);
  }

  /** Makes the error for an answer that leads where Coral does not go. */
  notAllowed(reason: string): RegistryError {
    return new RegistryError("NOT_ALLOWED", reason, { act: this.#options.act });
  }

  /** Waits before the next of several attempts. */
  async pause(attempt: number): Promise<void> {
    const { clock, patience, signal } = this.#options;
    const { random = Math.random } = patience ?? {};
    const waitMs = fullJitter(attempt, { minMs: minWaitMs, maxMs: maxWaitMs, random });
    try {
      await clock.sleep(waitMs, { signal });
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  }

  /** Sends a request as often as it may help. */
  async #repeat<A extends Answer>(wanted: Wanted, send: Send<A>): Promise<Exchange<A>> {
    const { body, isOnce = isStreamed(body) } = wanted;
    const isRepeatable = this.#options.patience !== undefined && !isOnce;
    for (let attempts = 1, throttles = 1; ;) {
      try {
        return await this.#askAsWhoMay(wanted, send);
      } catch (error) {
        if (!(error instanceof RegistryError) || !error.retryable || !isRepeatable) throw error;
        if (error.code === "THROTTLED") {
          if (throttles++ === maxThrottles) throw error; // Else the budget waits.
        } else {
          if (attempts === maxAttempts) throw error;
          await this.pause(attempts++);
        }
      }
    }
  }

  async #askAsWhoMay<A extends Answer>(wanted: Wanted, send: Send<A>): Promise<Exchange<A>> {
    const refusals: RegistryError[] = [];
    for (const login of this.#logins) {
      try {
        const exchange = await this.#askAs(login, wanted, send);
        this.#logins = [login, ...this.#logins.filter((other) => other !== login)];
        if (login) this.#options.patience?.onServed?.(login);
        return exchange;
      } catch (error) {
        if (!(error instanceof RegistryError) || error.code !== "DENIED") throw error;
        refusals.push(error);
        if (isStreamed(wanted.body)) break;
      }
    }
    throw refusals[0] ?? this.badAnswer("was not asked");
  }

  async #askAs<A extends Answer>(
    login: Login | undefined,
    wanted: Wanted,
    send: Send<A>,
  ): Promise<Exchange<A>> {
    const { authorizer, clock, repository, scopes, act, signal } = this.#options;
    const { accept, method, url, body, limitBytes } = wanted;
    const asking = { repository, login, scopes, act, signal };
    const headers = { ...wanted.headers, ...(accept !== undefined && { accept }) };
    const request = { method, url, headers, limitBytes, ...(body && { body }) };
    // An upload may be elsewhere: its address is all that is needed there.
    const isHome = url.origin === this.urlOf("").origin;
    let authorization = isHome ? authorizer.known(asking) : undefined;
    let exchange = await this.#admit(login, wanted, () => send({ ...request, authorization }));
    // Whom a registry redirects to may not ask for its logins.
    if (exchange.answer.status === 401 && isHome && exchange.answer.url.origin === url.origin) {
      using permit = exchange.permit;
      if (authorization !== undefined) authorizer.forget(asking);
      try {
        authorization = await authorizer.authorize(exchange.answer, asking);
      } catch (error) {
        if (error instanceof RegistryError) permit?.answered(answerOfRealm(error));
        throw error;
      }
      permit?.[Symbol.dispose]();
      if (isStreamed(body)) {
        throw new RegistryError("UNREACHABLE", "it asks for a login half-way", { act });
      }
      exchange = await this.#admit(login, wanted, () => send({ ...request, authorization }));
      if (exchange.answer.status === 401) authorizer.forget(asking);
    }
    const { status, body: content, header } = exchange.answer;
    if (status >= 200 && status < 300) return exchange;
    const isAbsent = status === 404 && wanted.mayBeAbsent === true;
    if (isAbsent && !isThrottled(exchange.answer)) return exchange;
    exchange.permit?.[Symbol.dispose]();
    const refusal = { status, body: content, retryAfter: header("retry-after") };
    throw refusalError(refusal, { act, login, authorization, now: clock.now() });
  }

  /** Sends one request when the budget allows it, and lets the budget know the answer. */
  async #admit<A extends Answer>(
    login: Login | undefined,
    { method, url, body, isResumed = false }: Wanted,
    exchange: () => Promise<A>,
  ): Promise<Exchange<A>> {
    const { patience, signal } = this.#options;
    const permit = await patience?.budgets.enter({
      host: url.host,
      login,
      lane: laneOf(method, body),
      counts: isCounted(method, url),
      isResumed,
      signal,
      onThrottled: patience.onThrottled,
    });
    try {
      const answer = await exchange();
      const { status, header } = answer;
      permit?.answered({ status, header, isThrottled: isThrottled(answer) });
      return { answer, permit };
    } catch (error) {
      permit?.[Symbol.dispose]();
      throw error;
    }
  }
}

/** A realm that refuses to be asked so often means the registry's requests of that login. */
function answerOfRealm({ code, retryAfterMs }: RegistryError): Parameters<Permit["answered"]>[0] {
  const retryAfter =
    retryAfterMs === undefined ? undefined : String(Math.ceil(retryAfterMs / 1_000));
  return {
    status: 401,
    header: (name) => (name === "retry-after" ? retryAfter : undefined),
    isThrottled: code === "THROTTLED",
  };
}

async function* noBatches(): AsyncGenerator<readonly Buffer[], void> {}

type Send<A> = (request: TransportRequest) => Promise<A>;

interface Exchange<A> {
  readonly answer: A;
  /** To be disposed when the answer's body has been read. */
  readonly permit: Permit | undefined;
}

function isStreamed(body: Wanted["body"]): boolean {
  return body !== undefined && "chunks" in body;
}

function laneOf(method: string, body: Wanted["body"]): Lane {
  if (isStreamed(body)) return "upload";
  return method === "GET" || method === "HEAD" ? "read" : "write";
}

/** Docker Hub counts manifests that are read, and nothing else. Others do not say, so all may count. */
function isCounted(method: string, url: URL): boolean {
  if (url.hostname !== dockerHub) return true;
  return method === "GET" && url.pathname.includes("/manifests/");
}

/** A host as URLs have it: in lower case, and without the port that plain HTTP has anyway. */
export function hostInUrl(registry: string): string {
  return URL.parse(`http://${registry}`)?.host ?? registry;
}
