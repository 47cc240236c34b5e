import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { daemonProcsFiles } from "./cgroups.ts";
import { kubeProxyFlags } from "./control-plane.ts";
import type { Daemon } from "./daemon.ts";
import { controlPlaneAddress, dnsAddress, type Layout, type NodeLayout } from "./layout.ts";
import { registryHosts, upstreamNames } from "./registry-hosts.ts";
import type { Programs } from "./toolchain/build.ts";

/** A node's daemons, in the order in which they start. */
export const nodeComponents = ["containerd", "kubelet", "kube-proxy"] as const;

export type NodeComponent = (typeof nodeComponents)[number];

/** The pause image that holds each pod's namespaces. */
const pauseImage = "registry.test:5000/pause:3.10";

/** Writes the files that a node's daemons read. */
export async function writeNodeConfig(
  layout: Layout,
  node: NodeLayout,
  programs: Programs,
): Promise<void> {
  const folders = ["varlib", "kubelet", "pods", "containers", "cni", "cni-state", "certs.d"];
  await Promise.all(folders.map((folder) => mkdir(node.path(folder), { recursive: true })));
  const files: Record<string, string> = {
    "setup.sh": setupScript(node),
    "containerd.toml": containerdConfig(node, programs),
    "kubelet.yaml": kubeletConfig(layout, node),
    "cni/10-coral.conflist": cniConfig(node),
    hosts: `127.0.0.1 localhost\n${controlPlaneAddress} ${upstreamNames.join(" ")}\n${node.address} ${node.name}\n`,
    "resolv.conf": `nameserver ${dnsAddress}\n`,
  };
  for (const { host } of registryHosts) {
    await mkdir(node.path("certs.d", host), { recursive: true });
    files[`certs.d/${host}/hosts.toml`] = `server = "http://${host}"\n`;
  }
  await Promise.all(
    Object.entries(files).map(([name, content]) => writeFile(node.path(name), content)),
  );
}

/**
 * The process that holds a node's mount namespace. It prints `ready` when all is mounted; the
 * daemons then enter its namespaces, and each can be stopped alone.
 */
export function anchorDaemon(node: NodeLayout): Daemon {
  const enter = ["nsenter", `--net=/run/netns/${node.namespace}`, "unshare", "--mount"];
  return { id: `${node.name}/anchor`, argv: [...enter, "sh", node.path("setup.sh")] };
}

/** Runs a command in a node's network and mount namespaces. */
export function insideNode(anchorPid: number, argv: readonly string[]): string[] {
  return ["nsenter", "--mount", "--net", "--target", String(anchorPid), ...argv];
}

/** How one of a node's daemons is started. */
export function nodeDaemon(
  component: NodeComponent,
  layout: Layout,
  node: NodeLayout,
  anchorPid: number,
  programs: Programs,
): Daemon {
  const procs = daemonProcsFiles(node.cgroup).map((file) => `echo $$ > ${file} && `);
  const daemon = (program: string, ...flags: string[]): Daemon => ({
    id: `${node.name}/${component}`,
    argv: insideNode(anchorPid, [
      "sh",
      "-c",
      `${procs.join("")}exec "$0" "$@"`,
      programs.file(program),
      ...flags,
    ]),
    // containerd finds its shim, runc and the CNI plugins' helpers through PATH.
    env: { PATH: programs.path },
  });
  switch (component) {
    case "containerd":
      return daemon("containerd", "-c", node.path("containerd.toml"));
    case "kubelet":
      return daemon(
        "kubelet",
        `--config=${node.path("kubelet.yaml")}`,
        `--kubeconfig=${join(layout.pki, `${node.name}.kubeconfig`)}`,
        `--hostname-override=${node.name}`,
        `--node-ip=${node.address}`,
      );
    case "kube-proxy":
      return daemon(
        "kube-proxy",
        ...kubeProxyFlags(join(layout.pki, "proxy.kubeconfig"), node.name),
      );
  }
}

/**
 * Gives the node paths of its own for all that containerd and the kubelet keep at fixed places.
 * Nothing mounted here is seen outside; inside, mounts spread as on a node's own root.
 */
function setupScript(node: NodeLayout): string {
  const binds: Record<string, string> = {
    varlib: "/var/lib/containerd",
    kubelet: "/var/lib/kubelet",
    pods: "/var/log/pods",
    containers: "/var/log/containers",
    "cni-state": "/var/lib/cni",
    "certs.d": "/etc/containerd/certs.d",
    hosts: "/etc/hosts",
    "resolv.conf": "/etc/resolv.conf",
  };
  const targets = Object.values(binds).filter((path) => !/hosts$|resolv\.conf$/.test(path));
  return `set -eu
mount --make-rprivate /
mkdir -p ${targets.join(" ")} /run/containerd /run/nri
for folder in /run/netns /run/containerd /run/nri; do mount -t tmpfs tmpfs "$folder"; done
${Object.entries(binds)
  .map(([from, to]) => `mount --bind ${node.path(from)} ${to}`)
  .join("\n")}
mount --make-rshared /
echo ready
exec sleep infinity
`;
}

function containerdConfig(node: NodeLayout, programs: Programs): string {
  // restrict_oom_score_adj: without CAP_SYS_RESOURCE no container would start.
  // netns_mounts_under_state_dir: the pods' namespaces go away with the node.
  return `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "${pauseImage}"
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "/etc/containerd/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["${programs.folderOf("bridge")}"]
conf_dir = "${node.path("cni")}"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
`;
}

function kubeletConfig(layout: Layout, node: NodeLayout): string {
  return JSON.stringify(
    {
      apiVersion: "kubelet.config.k8s.io/v1beta1",
      kind: "KubeletConfiguration",
      failCgroupV1: false, // Kubernetes refuses cgroup v1 otherwise, from 1.35 on.
      cgroupDriver: "cgroupfs",
      cgroupRoot: `/${node.cgroup}`,
      failSwapOn: false,
      readOnlyPort: 0,
      authentication: {
        anonymous: { enabled: false },
        webhook: { enabled: true },
        x509: { clientCAFile: join(layout.pki, "ca.crt") },
      },
      authorization: { mode: "Webhook" },
      tlsCertFile: join(layout.pki, `${node.name}.crt`),
      tlsPrivateKeyFile: join(layout.pki, `${node.name}.key`),
      containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock",
      nodeStatusUpdateFrequency: "5s",
      imageGCHighThresholdPercent: 100, // Off: how full this machine's disk is, is no matter here.
      evictionHard: {
        "memory.available": "100Mi",
        "nodefs.available": "1%",
        "imagefs.available": "1%",
        "nodefs.inodesFree": "1%",
      },
      clusterDomain: "cluster.local",
      clusterDNS: [dnsAddress],
      resolvConf: "/etc/resolv.conf",
    },
    undefined,
    2,
  );
}

function cniConfig(node: NodeLayout): string {
  return JSON.stringify({
    cniVersion: "1.0.0",
    name: "coral",
    plugins: [
      {
        type: "bridge",
        bridge: "cni0",
        isGateway: true,
        hairpinMode: true,
        ipam: {
          type: "host-local",
          ranges: [[{ subnet: node.podCidr }]],
          routes: [{ dst: "0.0.0.0/0" }],
        },
      },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  });
}
