import type { CertificateSource, ServerCertificate } from "#http/serve.ts";
import type { Log } from "#telemetry/log.ts";

/** Holds what is served now, and tells when it changes. */
export class CurrentCertificate implements CertificateSource {
  readonly #log: Log;
  readonly #listeners = new Set<() => void>();
  #current: ServerCertificate | undefined;
  #ca: string | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  current(): ServerCertificate | undefined {
    return this.#current;
  }

  /** What clients are to trust, in PEM. */
  ca(): string | undefined {
    return this.#ca;
  }

  /** Calls `listener` when the certificate or the authorities have changed. */
  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  /** Takes what is to be served from now on. Nobody hears of what is as it was. */
  set({ cert, key }: ServerCertificate, ca: string | undefined): void {
    const isSame = cert === this.#current?.cert && key === this.#current.key && ca === this.#ca;
    if (isSame) return;
    this.#current = { cert, key };
    this.#ca = ca;
    for (const listener of this.#listeners) {
      try {
        listener();
      } catch (error) {
        this.#log.error("cannot present the certificate", { error });
      }
    }
  }
}
