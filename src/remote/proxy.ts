import { BlockList, isIP } from "node:net";

/** Which proxies requests go through. */
export interface ProxySettings {
  /** For addresses of plain HTTP. */
  readonly http: URL | undefined;
  /** For addresses of HTTPS, by CONNECT. */
  readonly https: URL | undefined;
  /** Hosts that are asked directly, as in `NO_PROXY`. */
  readonly except: string;
}

/**
 * Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or their names in lower case, which win.
 *
 * @throws {TypeError} if a proxy is no HTTP or HTTPS address. It does not quote the value, which may
 * hold a login.
 */
export function parseProxies(
  environment: Readonly<Record<string, string | undefined>>,
): ProxySettings | undefined {
  const value = (name: string): string =>
    environment[name.toLowerCase()] || environment[name] || "";
  const http = parseProxy("HTTP_PROXY", value("HTTP_PROXY"));
  const https = parseProxy("HTTPS_PROXY", value("HTTPS_PROXY"));
  return http || https ? { http, https, except: value("NO_PROXY") } : undefined;
}

/**
 * Picks the proxy for an address; `undefined` if it is asked directly. This machine always is.
 *
 * An exception is what Go's programs take, the kubelet and containerd among them: a host, which stands
 * for those below it too, one that begins with a dot or `*.` for those below alone, an address, a
 * network like `10.0.0.0/8`, each but the network with a port if it is for that alone, or `*`.
 */
export function proxyFor(url: URL, settings: ProxySettings | undefined): URL | undefined {
  const proxy = url.protocol === "https:" ? settings?.https : settings?.http;
  if (!proxy || !settings) return undefined;
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  if (host === "localhost" || (isIP(host) !== 0 && isWithin(host, "127.0.0.0/8"))) return undefined;
  if (host === "::1") return undefined;
  const exceptions = settings.except.toLowerCase().split(/[,\s]+/);
  return exceptions.some((exception) => isMatch(exception, host, port)) ? undefined : proxy;
}

function isMatch(exception: string, host: string, port: string): boolean {
  if (exception === "") return false;
  if (exception === "*") return true;
  if (exception.includes("/")) return isWithin(host, exception);
  const [, bracketed, plain, wantedPort] =
    /^(?:\[([^\]]*)\]|([^:]*|.*:.*:.*?))(?::(\d+))?$/.exec(exception) ?? [];
  if (wantedPort !== undefined && wantedPort !== port) return false;
  const name = bracketed ?? plain ?? "";
  if (isIP(name) !== 0 || isIP(host) !== 0) return name === host;
  const below = name.replace(/^\*/, "");
  if (below.startsWith(".")) return host.endsWith(below);
  return host === name || (name !== "" && host.endsWith(`.${name}`));
}

function isWithin(host: string, network: string): boolean {
  const [address = "", bits = ""] = network.split("/");
  const family = isIP(address);
  if (family === 0 || isIP(host) !== family || !/^\d{1,3}$/.test(bits)) return false;
  if (Number(bits) > (family === 4 ? 32 : 128)) return false;
  const type = family === 4 ? "ipv4" : "ipv6";
  const list = new BlockList();
  list.addSubnet(address, Number(bits), type);
  return list.check(host, type);
}

function parseProxy(name: string, text: string): URL | undefined {
  if (text === "") return undefined;
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`);
  if (url && /^https?:$/.test(url.protocol)) return url;
  throw new TypeError(`${name} must be an address like "http://proxy.example:3128"`);
}
