import { request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { insideControlPlane } from "#sandbox/control-plane.ts";
import type { Daemon } from "#sandbox/daemon.ts";
import type { Layout } from "#sandbox/layout.ts";
import { writeLogins } from "#sandbox/logins.ts";
import type { RegistryHost, RegistryLogin } from "#sandbox/registry-hosts.ts";
import type { Fault, RequestRecord } from "./fault.ts";

/** How the proxy before the registries is started. */
export function upstreamDaemon(layout: Layout): Daemon {
  const main = join(import.meta.dirname, "main.ts");
  const argv = insideControlPlane(layout, [process.execPath, main, controlSocketOf(layout)]);
  return { id: "upstream", argv };
}

function controlSocketOf(layout: Layout): string {
  return layout.path("upstream.sock");
}

/** The sandbox's stand-in for the internet: what it was asked, and what goes wrong with it. */
export class Upstream {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  /** Makes exactly these faults happen from now on; none ends them all. */
  async setFaults(faults: readonly Fault[], { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#ask("PUT", "/faults", signal, JSON.stringify(faults));
  }

  /** The requests since the start or the last {@link forgetRequests}, oldest first. */
  async requests({ signal }: { signal: AbortSignal }): Promise<RequestRecord[]> {
    const records: unknown = JSON.parse(await this.#ask("GET", "/requests", signal));
    if (!Array.isArray(records)) throw new TypeError("The upstream's requests must be a list");
    return records;
  }

  async forgetRequests({ signal }: { signal: AbortSignal }): Promise<void> {
    await this.#ask("DELETE", "/requests", signal);
  }

  /**
   * Makes exactly these the logins of a registry that asks for one, from its next request on. Tokens
   * that its realm has given stay good for their minute.
   */
  async setLogins(registry: RegistryHost, logins: readonly RegistryLogin[]): Promise<void> {
    await writeLogins(this.#layout, registry, logins);
  }

  async #ask(method: string, path: string, signal: AbortSignal, body?: string): Promise<string> {
    const scope = AbortSignal.any([signal, AbortSignal.timeout(10_000)]);
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    request(
      { socketPath: controlSocketOf(this.#layout), method, path, signal: scope },
      (response) => {
        text(response).then(resolve, reject);
      },
    )
      .on("error", reject)
      .end(body);
    return promise;
  }
}
