import { lookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { getCACertificates, type ConnectionOptions } from "node:tls";

import { buildConnector, ProxyAgent, type Agent, type Dispatcher } from "undici";
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

/** Whom servers are believed to be, and as whom they are shown Coral. All in PEM. */
export interface TlsSettings {
  /** Certificates that are trusted besides those that Node trusts. */
  readonly ca?: string | undefined;
  /** Shown to servers that ask for a certificate. */
  readonly client?: { readonly cert: string; readonly key: string } | undefined;
  /** Believes every server. For who knows why. */
  readonly insecureSkipVerify?: boolean | undefined;
}

export interface ConnectOptions {
  readonly network: NetworkPolicy;
  readonly tls: TlsSettings;
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
  tls,
  timeoutMs,
}: ConnectOptions): buildConnector.connector {
  const connect = buildConnector({
    lookup: guardedLookup(network),
    timeout: timeoutMs,
    allowH2: false,
    ...tlsOptions(tls),
  });
  return (options, callback) => {
    const refusal = refusedAddress(options.hostname, network);
    if (refusal) callback(refusal, null);
    else connect(options, callback);
  };
}

/**
 * Makes what sends undici's requests through a proxy. The proxy looks names up, so the policy sees
 * the addresses of the proxy, and whoever uses this shows it the addresses that are written as such.
 */
export function proxyDispatcher(
  proxy: URL,
  { network, tls, timeoutMs }: ConnectOptions,
  options: Agent.Options,
): Dispatcher {
  const refusal = refusedAddress(proxy.hostname, network);
  if (refusal) throw refusal;
  return new ProxyAgent({
    ...options,
    uri: proxy.href,
    allowH2: false,
    proxyTls: {
      lookup: guardedLookup(network),
      timeout: timeoutMs,
      ...tlsOptions({ ca: tls.ca }),
    },
    requestTls: { timeout: timeoutMs, ...tlsOptions(tls) },
  });
}

/** Refuses a host that is written as an address: nobody looks that up. */
export function refusedAddress(
  hostname: string,
  network: NetworkPolicy,
): AddressNotAllowedError | undefined {
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  if (isIP(host) === 0 || network.allows(host)) return undefined;
  return new AddressNotAllowedError(host, [host]);
}

function guardedLookup(network: NetworkPolicy): LookupFunction {
  return (hostname, options, callback) => {
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
}

function tlsOptions({
  ca,
  client,
  insecureSkipVerify = false,
}: TlsSettings): Pick<ConnectionOptions, "ca" | "cert" | "key" | "rejectUnauthorized"> {
  return {
    ...(ca !== undefined && { ca: [...getCACertificates("default"), ca] }),
    ...client,
    ...(insecureSkipVerify && { rejectUnauthorized: false }),
  };
}
