import { Agent } from "node:https";

import type { Clock } from "#async/clock.ts";
import type { PullCredentials } from "#cri/runtime-client.ts";
import { postJson, type JsonAnswer } from "#http/json-client.ts";
import type { KubeClient } from "#kube/client.ts";
import { Deadline } from "#async/deadline.ts";
import { configMaps } from "#kube/resource.ts";
import { isJsonObject } from "#json/json.ts";
import { parseReference } from "#oci/reference.ts";
import { HeldSlots, type SlotStatement, type SlotVerdict } from "./held-slots.ts";
import { LoginsUnavailableError, type LoginSource } from "./logins.ts";
import type { Slot, SlotSource } from "./slots.ts";

export interface ControllerClientOptions {
  /** For the authority to trust, which is in a ConfigMap. */
  client: Pick<KubeClient, "get">;
  /** Where the controller runs. */
  namespace: string;
  /** Reads this pod's token of audience `coral`; called for every request. */
  token: () => Promise<string>;
  clock: Clock;
  monotonicMs?: () => number;
  /** Where the Service is to be found; by its name, if not given. */
  address?: { readonly host: string; readonly port: number };
}

const service = "coral-controller";
const authority = { configMap: "coral-ca", key: "ca.crt" };

/** For the whole of a request. The controller answers in milliseconds, or is away. */
const timeoutMs = 5_000;

/** An idle connection is closed after this: a thousand of them would be a burden for the controller. */
const idleMs = 15_000;
const maxSockets = 2;
const maxAnswerBytes = 1 << 20;

/** An authority that was fetched is the right one for at least so long, whatever a server shows. */
const refetchAfterMs = 10_000;

/** What the server's certificate is not, when it was signed by an authority that we do not know. */
const unknownAuthority: ReadonlySet<string> = new Set([
  "CERT_SIGNATURE_FAILURE",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);

interface Authority {
  readonly ca: string;
  readonly atMs: number;
}

interface Batch {
  readonly references: Set<string>;
  readonly logins: Promise<ReadonlyMap<string, readonly PullCredentials[]>>;
}

/**
 * Asks the controller for what an agent may not know by itself: logins, and slots. Nothing is asked
 * before it is needed, and no login is kept.
 */
export class ControllerClient implements LoginSource, SlotSource, AsyncDisposable {
  readonly #options: ControllerClientOptions;
  readonly #monotonicMs: () => number;
  readonly #agent = new Agent({ keepAlive: true, maxSockets, timeout: idleMs });
  readonly #life = new AbortController();
  readonly #slots: HeldSlots;
  #authority: Authority | undefined;
  #batch: Batch | undefined;
  #lastBatch: Promise<unknown> = Promise.resolve();

  constructor(options: ControllerClientOptions) {
    const { clock, monotonicMs = (): number => performance.now() } = options;
    this.#options = options;
    this.#monotonicMs = monotonicMs;
    this.#slots = new HeldSlots({
      state: (statement, { signal }) => this.#state(statement, signal),
      clock,
      monotonicMs,
    });
  }

  /** References that are asked for while a request is out go together in the next. */
  async loginsFor(
    reference: string,
    { signal }: { signal: AbortSignal },
  ): Promise<readonly PullCredentials[]> {
    signal.throwIfAborted();
    const batch = (this.#batch ??= this.#openBatch());
    batch.references.add(reference);
    const left = Promise.withResolvers<never>();
    const leave = (): void => left.reject(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    try {
      const logins = await Promise.race([batch.logins, left.promise]);
      return logins.get(reference) ?? [];
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  async acquire(
    plans: readonly string[],
    { signal }: { signal: AbortSignal },
  ): Promise<Slot | { readonly retryAfterMs: number }> {
    return this.#slots.acquire(plans, { signal });
  }

  /** Lets all slots go, and closes the connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#slots[Symbol.asyncDispose]();
    this.#life.abort(new Error("The agent ends"));
    this.#agent.destroy();
  }

  #openBatch(): Batch {
    const references = new Set<string>();
    const logins = this.#lastBatch.then(() => {
      this.#batch = undefined; // Whoever comes from now on goes with the next.
      return this.#askLogins(references);
    });
    this.#lastBatch = logins.catch(() => {}); // Whoever waits sees it; perhaps nobody does any more.
    return { references, logins };
  }

  async #askLogins(
    references: ReadonlySet<string>,
  ): Promise<ReadonlyMap<string, readonly PullCredentials[]>> {
    try {
      const signal = this.#life.signal;
      const answer = await this.#post("/v1/credentials", { references: [...references] }, signal);
      return parseLogins(accepted(answer), references);
    } catch (error) {
      this.#life.signal.throwIfAborted();
      if (error instanceof RefusedError) {
        const { message, retryable } = error;
        throw new LoginsUnavailableError(`The controller gave no logins: ${message}`, {
          retryable,
        });
      }
      const message = "The controller cannot be asked for logins";
      throw new LoginsUnavailableError(message, { cause: error, retryable: true });
    }
  }

  async #state(statement: SlotStatement, signal: AbortSignal): Promise<SlotVerdict> {
    return parseVerdict(accepted(await this.#post("/v1/slots", statement, signal)));
  }

  /** Asks, and once more if the controller has a new authority that we have not heard of. */
  async #post(path: string, body: unknown, signal: AbortSignal): Promise<JsonAnswer> {
    using deadline = new Deadline(timeoutMs, signal);
    const { ca, atMs } = this.#authority ?? (await this.#fetchAuthority(deadline.signal));
    try {
      return await this.#postTo(path, { body, ca, signal: deadline.signal });
    } catch (error) {
      const isOld = this.#monotonicMs() - atMs >= refetchAfterMs;
      if (!isOld || !isUnknownAuthority(error)) throw error;
      const fresh = await this.#fetchAuthority(deadline.signal);
      if (fresh.ca === ca) throw error;
      return await this.#postTo(path, { body, ca: fresh.ca, signal: deadline.signal });
    }
  }

  async #postTo(
    path: string,
    { body, ca, signal }: { body: unknown; ca: string; signal: AbortSignal },
  ): Promise<JsonAnswer> {
    const serverName = `${service}.${this.#options.namespace}.svc`;
    const { address = { host: serverName, port: 443 }, token } = this.#options;
    return postJson({
      ...address,
      agent: this.#agent,
      serverName,
      ca,
      path,
      headers: { authorization: `Bearer ${await token()}` },
      body,
      maxAnswerBytes,
      signal,
    });
  }

  async #fetchAuthority(signal: AbortSignal): Promise<Authority> {
    const { client, namespace } = this.#options;
    const { configMap: name, key } = authority;
    const configMap = await client.get(configMaps, { namespace, name }, { signal });
    const ca = configMap?.data?.[key];
    if (!ca) throw new Error(`ConfigMap "${namespace}/${name}" must have "${key}"`);
    return (this.#authority = { ca, atMs: this.#monotonicMs() });
  }
}

/** The controller answered something else than what it was asked for. */
class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly retryable: boolean;

  constructor(message: string, { retryable }: { retryable: boolean }) {
    super(message);
    this.retryable = retryable;
  }
}

function accepted({ status, body }: JsonAnswer): unknown {
  if (status === 200) return body;
  const retryable = status >= 500 || status === 408 || status === 409 || status === 429;
  throw new RefusedError(`status ${status}`, { retryable });
}

function isUnknownAuthority(error: unknown): boolean {
  return error instanceof Error && "code" in error && unknownAuthority.has(String(error.code));
}

/** Reads logins. One for another host than the reference's is not used, whoever sent it. */
function parseLogins(
  body: unknown,
  references: ReadonlySet<string>,
): ReadonlyMap<string, readonly PullCredentials[]> {
  const list = isJsonObject(body) ? body["logins"] : undefined;
  if (!Array.isArray(list)) throw malformed("logins", "a list");
  const logins = new Map<string, PullCredentials[]>();
  for (const [index, item] of list.entries()) {
    const field = `logins[${index}]`;
    const { reference, registry, login } = isJsonObject(item) ? item : {};
    if (typeof reference !== "string" || !references.has(reference)) {
      throw malformed(`${field}.reference`, "one that was asked for");
    }
    if (registry !== parseReference(reference).registry) {
      throw malformed(`${field}.registry`, "the reference's own");
    }
    const credentials = { serverAddress: registry, ...parseLogin(login, `${field}.login`) };
    const others = logins.get(reference);
    if (others) others.push(credentials);
    else logins.set(reference, [credentials]);
  }
  return logins;
}

function parseLogin(
  login: unknown,
  field: string,
): { username: string; password: string } | { identityToken: string } {
  const { username, password, identityToken } = isJsonObject(login) ? login : {};
  if (typeof identityToken === "string") return { identityToken };
  if (typeof username === "string" && typeof password === "string") return { username, password };
  throw malformed(field, "a login");
}

function parseVerdict(body: unknown): SlotVerdict {
  const { granted, retryAfterMs, lost } = isJsonObject(body) ? body : {};
  if (typeof granted !== "boolean") throw malformed("granted", "true or false");
  if (typeof retryAfterMs !== "number" || !(retryAfterMs >= 0)) {
    throw malformed("retryAfterMs", "a number of milliseconds");
  }
  if (!Array.isArray(lost)) throw malformed("lost", "a list");
  return { granted, retryAfterMs, lost: lost.map(String) };
}

/** Names the field, never what stands there. */
function malformed(field: string, wanted: string): RefusedError {
  return new RefusedError(`"${field}" must be ${wanted}`, { retryable: true });
}
