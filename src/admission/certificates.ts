import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { CertificateSource } from "#http/serve.ts";
import type { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import type { Reconcile } from "#kube/reconcile.ts";
import { secrets } from "#kube/resource.ts";
import type { Secret } from "#kube/types.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import type { Log } from "#telemetry/log.ts";
import { certificateDue, renew } from "./certificate-due.ts";
import { CurrentCertificate } from "./current-certificate.ts";
import { readTlsSecret, type TlsTexts } from "./tls-state.ts";

/** Coral's certificates: what is served, what clients are to trust, and who keeps both fresh. */
export interface Certificates extends CertificateSource {
  /** The authorities that clients are to trust, in PEM; `undefined` before they are known. */
  ca(): string | undefined;
  /** Keeps the certificates fresh until aborted. Call it once. */
  run(signal: AbortSignal): Promise<void>;
}

export interface SecretCertificatesOptions {
  client: Pick<KubeClient, "listRaw" | "watch" | "watchError" | "create" | "replace">;
  /** The Secret, which is made if it is not there. */
  namespace: string;
  name: string;
  /** The names under which clients know us. */
  dnsNames: readonly string[];
  clock: Clock;
  random?: () => number;
  log: Log;
}

/** Somebody who spoils the Secret over and over gets an answer every few minutes. */
const backoff = { minMs: 200, maxMs: 5 * 60_000 };

/** Lets the watch bring what we wrote, and bounds how often we write at all. */
const settleMs = 2_000;

/** The names that a Service has in the cluster. The API server uses the first. */
export function serviceNames(service: string, namespace: string): string[] {
  const name = `${service}.${namespace}`;
  return [`${name}.svc`, `${name}.svc.cluster.local`, name];
}

/**
 * Makes Coral's certificates and keeps them in a Secret that all replicas share.
 *
 * Every replica watches the Secret and serves what it holds. When something is due, each of them
 * makes it and one write wins: the others' conflict, and the watch brings them the winner's. A
 * Secret that is deleted or spoiled is made anew, with a new authority; what was served before is
 * served until then.
 */
export class SecretCertificates implements Certificates {
  readonly #options: SecretCertificatesOptions;
  readonly #informer: Informer<Secret>;
  readonly #queue: WorkQueue;
  readonly #current: CurrentCertificate;
  readonly #key: string;

  constructor(options: SecretCertificatesOptions) {
    const { namespace, name, clock, random = Math.random, log } = options;
    this.#options = options;
    this.#key = `${namespace}/${name}`;
    this.#current = new CurrentCertificate(log);
    this.#queue = new WorkQueue({ name: "certificates", clock, random, backoff });
    this.#informer = new Informer({
      ...options,
      resource: secrets,
      fieldSelector: `metadata.name=${name}`,
    });
  }

  current(): ReturnType<Certificates["current"]> {
    return this.#current.current();
  }

  ca(): string | undefined {
    return this.#current.ca();
  }

  onChange(listener: () => void): Disposable {
    return this.#current.onChange(listener);
  }

  async run(signal: AbortSignal): Promise<void> {
    using _ = this.#informer.onChange(({ key }) => this.#queue.add(key));
    await using group = new TaskGroup(signal);
    const following = group.run((scope) => this.#informer.run(scope));
    await this.#informer.synced({ signal: group.signal }).catch(() => {}); // Aborted: all ends.
    this.#queue.add(this.#key);
    const { log } = this.#options;
    const renewing = group.run((scope) =>
      this.#queue.run(this.#reconcile, { workers: 1, log, signal: scope }),
    );
    await Promise.all([following, renewing]);
  }

  readonly #reconcile: Reconcile = async (key, { log, signal }) => {
    const { clock, client, namespace, name } = this.#options;
    const secret = this.#informer.get(key);
    const state = readTlsSecret(secret);
    const { serving, authorities } = state;
    if (serving) this.#current.set(serving, authorities.map(String).join(""));
    const input = { now: clock.now(), dnsNames: this.#options.dnsNames };
    const due = certificateDue(state, input);
    if (due.act === "wait") return { requeueAfterMs: due.forMs };
    log.info("making certificates", { why: due.why });
    const data = encode(renew(state, due, input));
    if (secret) {
      await client.replace(secrets, { ...secret, data: { ...secret.data, ...data } }, { signal });
    } else {
      const metadata = { namespace, name };
      await client.create(secrets, { metadata, type: "kubernetes.io/tls", data }, { signal });
    }
    return { requeueAfterMs: settleMs };
  };
}

function encode(texts: TlsTexts): Record<string, string> {
  return Object.fromEntries(
    Object.entries(texts).map(([field, text]) => [field, Buffer.from(text).toString("base64")]),
  );
}
