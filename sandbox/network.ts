import { readdir } from "node:fs/promises";

import { run, runToEnd } from "./command.ts";
import { controlPlaneAddress, serviceCidr, type Layout, type NodeLayout } from "./layout.ts";

type Scope = { signal: AbortSignal };

/**
 * The bridge's own hardware address, locally administered. Without one a bridge takes the lowest of
 * its ports': it would change as nodes come and go, and what nodes send to the old one is lost.
 */
const bridgeAddress = "02:00:0a:f0:00:01";

/**
 * Makes the control plane's network namespace: one bridge, on which every node gets a port.
 *
 * The default route points at the bridge itself, so a packet to any address outside dies inside:
 * nothing leaves the machine. Service addresses need a route before nftables rewrites them.
 */
export async function createNetwork(layout: Layout, { signal }: Scope): Promise<void> {
  const { namespace } = layout;
  await run(["ip", "netns", "add", namespace], { signal });
  await ip(
    namespace,
    [
      "link set lo up",
      `link add coral0 address ${bridgeAddress} type bridge`,
      "link set coral0 up",
      `addr add ${controlPlaneAddress}/24 dev coral0`,
      `route add ${serviceCidr} dev coral0`,
      `route add default via ${controlPlaneAddress} dev coral0`,
    ],
    { signal },
  );
  await forward(layout.namespaceFile, { signal });
}

/** Makes a node's network namespace and plugs it into the bridge. */
export async function createNodeNetwork(
  layout: Layout,
  node: NodeLayout,
  { signal }: Scope,
): Promise<void> {
  await run(["ip", "netns", "add", node.namespace], { signal });
  const plug = [
    `link add ${node.link} type veth peer name eth0 netns ${node.namespace}`,
    `link set ${node.link} master coral0 up`,
  ];
  await ip(layout.namespace, plug, { signal });
  const inside = [
    "link set lo up",
    "link set eth0 up",
    `addr add ${node.address}/24 dev eth0`,
    `route add default via ${controlPlaneAddress}`,
  ];
  await ip(node.namespace, inside, { signal });
  await ip(layout.namespace, [`route add ${node.podCidr} via ${node.address}`], { signal });
  await forward(`/run/netns/${node.namespace}`, { signal });
}

/** Unplugs a node: packets are lost in both directions, as with a pulled cable. */
export async function cutLink(layout: Layout, node: NodeLayout, { signal }: Scope): Promise<void> {
  await ip(layout.namespace, [`link set ${node.link} down`], { signal });
}

export async function restoreLink(
  layout: Layout,
  node: NodeLayout,
  { signal }: Scope,
): Promise<void> {
  await ip(layout.namespace, [`link set ${node.link} up`], { signal });
}

/** Limits what a node receives, in megabits per second; `undefined` lifts the limit. */
export async function limitLink(
  layout: Layout,
  node: NodeLayout,
  megabitsPerSecond: number | undefined,
  { signal }: Scope,
): Promise<void> {
  const enter = ["nsenter", `--net=${layout.namespaceFile}`, "tc", "qdisc"];
  if (megabitsPerSecond === undefined) {
    await runToEnd([...enter, "del", "dev", node.link, "root"], { signal }); // Maybe there is none.
    return;
  }
  const rate = ["tbf", "rate", `${megabitsPerSecond}mbit`, "burst", "64kb", "latency", "200ms"];
  await run([...enter, "replace", "dev", node.link, "root", ...rate], { signal });
}

/** Network namespaces of a sandbox that exist, nodes' first. */
export async function namespacesOf(layout: Layout): Promise<string[]> {
  const names = await readdir("/run/netns").catch(() => []);
  const ours = names.filter(
    (name) => name === layout.namespace || name.startsWith(`${layout.namespace}-n`),
  );
  return ours.sort().toReversed();
}

async function ip(namespace: string, lines: readonly string[], { signal }: Scope): Promise<void> {
  await run(["ip", "-n", namespace, "-batch", "-"], { input: `${lines.join("\n")}\n`, signal });
}

async function forward(namespaceFile: string, { signal }: Scope): Promise<void> {
  const command = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
  await run(["nsenter", `--net=${namespaceFile}`, ...command], { signal });
}
