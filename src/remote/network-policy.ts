import { BlockList, isIP } from "node:net";

/** Where Coral may connect to on behalf of whoever writes an Image or runs a registry. */
export interface NetworkPolicy {
  /** Whether an IP address may be connected to. Asked of each address, after its name was resolved. */
  allows(address: string): boolean;
}

export interface NetworkPolicyOptions {
  /** Networks that are out of bounds besides those that always are, like `10.96.0.0/12`. */
  readonly deniedNetworks: readonly string[];
  /** Exceptions from all that is denied. */
  readonly allowedNetworks?: readonly string[];
}

/**
 * What nobody's image lies behind: this machine, the link, the metadata services of clouds (AWS, GCP,
 * Azure, Alibaba, Oracle, Scaleway), and what is no single host's address.
 */
const alwaysDenied = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "100.100.100.200/32",
  "168.63.129.16/32",
  "169.254.0.0/16",
  "192.0.0.192/32",
  "224.0.0.0/4",
  "255.255.255.255/32",
  "::/128",
  "::1/128",
  "fd00:42::42/128",
  "fd00:ec2::254/128",
  "fd20:ce::254/128",
  "fe80::/10",
  "ff00::/8",
] as const;

/** Prefixes under which an IPv6 address stands for the IPv4 address in its last 32 bits. */
const embeddings = ["::", "::ffff:", "::ffff:0:", "64:ff9b::"] as const;

/**
 * Makes a policy that denies loopback, link-local, metadata, unspecified and multicast addresses, and
 * `deniedNetworks`. An IPv4 network is meant in its IPv6 forms too: mapped, compatible and NAT64.
 *
 * @throws {TypeError} naming the first network that is none.
 */
export function networkPolicy(options: NetworkPolicyOptions): NetworkPolicy {
  const denied = blockList([...alwaysDenied, ...options.deniedNetworks]);
  const allowed = blockList(options.allowedNetworks ?? []);
  return {
    allows(address) {
      const [bare = ""] = address.split("%"); // Without the interface of a link-local address.
      const family = isIP(bare);
      if (family === 0) return false;
      const type = family === 4 ? "ipv4" : "ipv6";
      return allowed.check(bare, type) || !denied.check(bare, type);
    },
  };
}

function blockList(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", bits = "", ...rest] = network.split("/");
    const family = isIP(address);
    const isBits = /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128);
    if (family === 0 || !isBits || rest.length > 0) {
      throw new TypeError(`"${network}" must be a network like "10.0.0.0/8" or "fd00::/8"`);
    }
    if (family === 6) list.addSubnet(address, Number(bits), "ipv6");
    else {
      list.addSubnet(address, Number(bits), "ipv4");
      for (const prefix of embeddings) {
        list.addSubnet(`${prefix}${address}`, 96 + Number(bits), "ipv6");
      }
    }
  }
  return list;
}
