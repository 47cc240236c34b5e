import { addAbortListener } from "node:events";
import { Agent } from "node:https";

import { postJson, type JsonAnswer } from "#http/json-client.ts";
import type { KubeClient } from "#kube/client.ts";
import { Deadline } from "#async/deadline.ts";
import { leases, pods } from "#kube/resource.ts";

export interface LeaderLinkOptions {
  client: Pick<KubeClient, "get">;
  namespace: string;
  /** The Lease that the leader holds under its pod's name. */
  lease: string;
  /** This replica's own name. */
  identity: string;
  /** Where every replica serves what agents ask. */
  port: number;
  /** The name in the replicas' certificate. */
  serverName: string;
  /** The authorities that replicas trust; `undefined` before they are known. */
  ca: () => string | undefined;
  monotonicMs?: () => number;
}

/** How long the leader found last is believed in. */
const leaderMs = 2_000;

/** A pod keeps its address, and its name is never given again; this is for what we do not foresee. */
const addressMs = 60_000;

const timeoutMs = 5_000;
const maxAnswerBytes = 64 << 10;

/** Says that a request comes from another replica, and is not to be passed on again. */
export const forwardedHeader = "coral-forwarded-by";

/** What the API server was asked on behalf of everybody who needs it. */
interface Shared<T> {
  readonly value: Promise<T>;
  readonly atMs: number;
}

/** Passes requests on to the replica that leads. It costs the API server one GET in two seconds, while there are any. */
export class LeaderLink implements Disposable {
  readonly #options: LeaderLinkOptions;
  readonly #monotonicMs: () => number;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 8 });
  readonly #stop = new AbortController();
  #leader: Shared<string | undefined> | undefined;
  #address: (Shared<string | undefined> & { readonly pod: string }) | undefined;

  constructor(options: LeaderLinkOptions) {
    this.#options = options;
    this.#monotonicMs = options.monotonicMs ?? ((): number => performance.now());
  }

  /**
   * Has the leader answer a request.
   *
   * @returns `undefined` if nobody leads, or nobody that is known here yet.
   * @throws if it cannot be reached within 5 s.
   */
  async post(
    path: string,
    { body, authorization, signal }: { body: unknown; authorization: string; signal: AbortSignal },
  ): Promise<JsonAnswer | undefined> {
    const { identity, port, serverName, ca } = this.#options;
    using deadline = new Deadline(timeoutMs, signal);
    const authorities = ca();
    const host = await this.#findLeader(deadline.signal);
    if (host === undefined || authorities === undefined) return undefined;
    return await postJson({
      agent: this.#agent,
      host,
      port,
      serverName,
      ca: authorities,
      path,
      headers: { authorization, [forwardedHeader]: identity },
      body,
      maxAnswerBytes,
      signal: deadline.signal,
    });
  }

  [Symbol.dispose](): void {
    this.#stop.abort(new Error("The link has ended"));
    this.#agent.destroy();
  }

  /** @returns the leader's address, unless it is us: then we have just ceased to lead. */
  async #findLeader(signal: AbortSignal): Promise<string | undefined> {
    const nowMs = this.#monotonicMs();
    if (!this.#leader || nowMs - this.#leader.atMs >= leaderMs) {
      const leader = { value: this.#share((scope) => this.#readLeader(scope)), atMs: nowMs };
      this.#leader = leader;
      leader.value.catch(() => this.#leader === leader && (this.#leader = undefined));
    }
    const pod = await unlessAborted(this.#leader.value, signal);
    if (pod === undefined || pod === this.#options.identity) return undefined;
    if (this.#address?.pod !== pod || nowMs - this.#address.atMs >= addressMs) {
      const value = this.#share((scope) => this.#readAddress(pod, scope));
      const address = { value, atMs: nowMs, pod };
      this.#address = address;
      value.catch(() => this.#address === address && (this.#address = undefined));
    }
    return await unlessAborted(this.#address.value, signal);
  }

  /** Asks for all who wait, so that it has its own end: whoever asked first may leave. */
  async #share<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    using deadline = new Deadline(timeoutMs, this.#stop.signal);
    return await ask(deadline.signal);
  }

  async #readLeader(signal: AbortSignal): Promise<string | undefined> {
    const { client, namespace, lease: name } = this.#options;
    const lease = await client.get(leases, { namespace, name }, { signal });
    return lease?.spec?.holderIdentity || undefined;
  }

  async #readAddress(name: string, signal: AbortSignal): Promise<string | undefined> {
    const { client, namespace } = this.#options;
    const pod = await client.get(pods, { namespace, name }, { signal });
    return pod?.status?.podIP || undefined;
  }
}

/** Waits for what others wait for too. @throws the signal's reason, if aborted, which ends only this wait. */
async function unlessAborted<T>(value: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  using _ = addAbortListener(signal, () => aborted.reject(signal.reason));
  return await Promise.race([value, aborted.promise]);
}
