import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { isAbort } from "#async/abort.ts";
import type { Clock } from "#async/clock.ts";
import type { Log } from "#telemetry/log.ts";
import type { Certificates } from "./certificates.ts";
import { CurrentCertificate } from "./current-certificate.ts";
import { readAuthorities, readServerCertificate } from "./tls-state.ts";

/** The kubelet itself takes up to a minute to bring a changed Secret into a volume. */
const pollMs = 30_000;

/** Serves certificates that somebody else makes: cert-manager, by way of a mounted Secret. */
export class CertificateFiles implements Certificates {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #current: CurrentCertificate;

  /** @param options.folder - where `tls.crt`, `tls.key` and `ca.crt` are. */
  constructor({ folder, clock, log }: { folder: string; clock: Clock; log: Log }) {
    this.#folder = folder;
    this.#clock = clock;
    this.#log = log;
    this.#current = new CurrentCertificate(log);
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
    let lastProblem: string | undefined;
    while (!signal.aborted) {
      const problem = await this.#look(signal);
      // A volume is changed in one step, but we may read across it; the next look is right again.
      if (problem !== undefined && problem !== lastProblem) {
        this.#log.warn("certificate files cannot be served", { path: this.#folder, problem });
      }
      lastProblem = problem;
      await this.#clock.sleep(pollMs, { signal }).catch((error: unknown) => {
        if (!isAbort(error, signal)) throw error;
      });
    }
  }

  /** @returns what is wrong with the files. What was served before is served further. */
  async #look(signal: AbortSignal): Promise<string | undefined> {
    try {
      const [cert = "", key = "", ca = ""] = await Promise.all(
        ["tls.crt", "tls.key", "ca.crt"].map((name) =>
          readFile(join(this.#folder, name), { encoding: "utf8", signal }),
        ),
      );
      readAuthorities(ca);
      this.#current.set(readServerCertificate({ cert, key }), ca);
      return undefined;
    } catch (error) {
      if (isAbort(error, signal)) return undefined;
      return error instanceof Error ? error.message : "unreadable";
    }
  }
}
