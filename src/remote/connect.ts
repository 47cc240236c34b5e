import { lookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { getCACertificates } from "node:tls";

import { buildConnector } from "undici";
import type { NetworkPolicy } from "./network-policy.ts";

/** A host has no address that may be connected to. */
export class AddressNotAllowedError extends Error {
  override readonly name = "AddressNotAllowedError";
  readonly code = "ADDRESS_NOT_ALLOWED";
  readonly retryable = false;

  constructor(host: string, addresses: readonly string[]) {
    super(`Cannot connect to "${host}": ${addresses.join(", ")} must not be connected to`);
  }
}

export interface ConnectOptions {
  readonly network: NetworkPolicy;
  /** Certificates in PEM that are trusted besides those that Node trusts. */
  readonly ca: string | undefined;
  /** Longest wait for name, TCP and TLS together. */
  readonly timeoutMs: number;
}

/**
 * Makes what opens undici's connections, to allowed addresses alone.
 *
 * The policy sees the addresses that the socket then gets: nobody can answer a second look-up
 * with another one.
 */
export function guardedConnector({
  network,
  ca,
  timeoutMs,
}: ConnectOptions): buildConnector.connector {
  const allowedLookup: LookupFunction = (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error) return callback(error, "", 0);
      const allowed = found.filter(({ address }) => network.allows(address));
      const [first] = allowed;
      if (!first) {
        const addresses = found.map(({ address }) => address);
        return callback(new AddressNotAllowedError(hostname, addresses), "", 0);
      }
      if (options.all) callback(null, allowed);
      else callback(null, first.address, first.family);
    });
  };
  const connect = buildConnector({
    lookup: allowedLookup,
    timeout: timeoutMs,
    allowH2: false,
    ...(ca !== undefined && { ca: [...getCACertificates("default"), ca] }),
  });
  return (options, callback) => {
    // Nobody looks up an address, so it is checked as it is written.
    const host = options.hostname.replace(/^\[(.*)\]$/, "$1");
    if (isIP(host) === 0 || network.allows(host)) connect(options, callback);
    else callback(new AddressNotAllowedError(host, [host]), null);
  };
}
