import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { Daemon } from "./daemon.ts";
import { controlPlaneAddress, podCidr, serviceCidr, type Layout } from "./layout.ts";
import { upstreamNames } from "./registry-hosts.ts";
import type { Programs } from "./toolchain/build.ts";

/** Namespace in which Coral runs; the audit log records what its service accounts ask. */
export const coralNamespace = "coral-system";

/** The control plane's daemons, in the order in which they start. */
export const controlPlaneComponents = [
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "coredns",
] as const;

export type ControlPlaneComponent = (typeof controlPlaneComponents)[number];

/** Left alone, these two ask for at most 50 things a second: a DaemonSet of 1,000 pods takes minutes. */
const unhurried = ["--kube-api-qps=500", "--kube-api-burst=1000"];

/** Runs a command in the control plane's network namespace. `nsenter` execs: the pid stays. */
export function insideControlPlane(layout: Layout, argv: readonly string[]): string[] {
  return ["nsenter", `--net=${layout.namespaceFile}`, ...argv];
}

/** Writes the files that the control plane's daemons read. */
export async function writeControlPlaneConfig(layout: Layout): Promise<void> {
  await mkdir(layout.logs, { recursive: true });
  await writeFile(layout.path("audit-policy.yaml"), auditPolicy);
  await writeFile(layout.path("Corefile"), corefile(layout));
}

/** How one of the control plane's daemons is started. */
export function controlPlaneDaemon(
  component: ControlPlaneComponent,
  layout: Layout,
  programs: Programs,
): Daemon {
  const pki = (name: string): string => join(layout.pki, name);
  const daemon = (program: string, ...flags: string[]): Daemon => ({
    id: component,
    argv: insideControlPlane(layout, [programs.file(program), ...flags]),
  });
  switch (component) {
    case "etcd":
      return daemon(
        "etcd",
        `--data-dir=${layout.path("etcd")}`,
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        // Loses data only when the machine loses power; a killed process loses nothing.
        "--unsafe-no-fsync",
      );
    case "kube-apiserver":
      return daemon(
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        "--secure-port=6443",
        "--bind-address=0.0.0.0",
        `--advertise-address=${controlPlaneAddress}`,
        `--tls-cert-file=${pki("apiserver.crt")}`,
        `--tls-private-key-file=${pki("apiserver.key")}`,
        `--client-ca-file=${pki("ca.crt")}`,
        `--service-account-key-file=${pki("sa.pub")}`,
        `--service-account-signing-key-file=${pki("sa.key")}`,
        "--service-account-issuer=https://kubernetes.default.svc",
        `--service-cluster-ip-range=${serviceCidr}`,
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        `--kubelet-client-certificate=${pki("admin.crt")}`,
        `--kubelet-client-key=${pki("admin.key")}`,
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        `--audit-policy-file=${layout.path("audit-policy.yaml")}`,
        `--audit-log-path=${layout.auditLog}`,
      );
    case "kube-controller-manager":
      return daemon(
        "kube-controller-manager",
        `--kubeconfig=${pki("kcm.kubeconfig")}`,
        `--service-account-private-key-file=${pki("sa.key")}`,
        `--root-ca-file=${pki("ca.crt")}`,
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        `--cluster-signing-cert-file=${pki("ca.crt")}`,
        `--cluster-signing-key-file=${pki("ca.key")}`,
        "--allocate-node-cidrs=false",
        ...unhurried,
      );
    case "kube-scheduler":
      return daemon(
        "kube-scheduler",
        `--kubeconfig=${pki("scheduler.kubeconfig")}`,
        "--leader-elect=false",
        ...unhurried,
      );
    case "coredns":
      return daemon("coredns", "-conf", layout.path("Corefile"));
  }
}

/** kube-proxy of a node, or of the control plane, whose API server calls webhooks by Service. */
export function kubeProxyFlags(kubeconfig: string, nodeName: string): string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    "--proxy-mode=nftables",
    `--hostname-override=${nodeName}`,
    `--cluster-cidr=${podCidr}`,
    // Zero leaves the kernel's settings alone, which a network namespace may not change.
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
  ];
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts:${coralNamespace}"]
  - level: None
`;

/**
 * Outside names must fail at once, as the last block says for every name, but those of the sandbox's
 * own registries are found.
 */
function corefile(layout: Layout): string {
  return `cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {
    bind ${controlPlaneAddress}
    errors
    ready ${controlPlaneAddress}:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig ${join(layout.pki, "admin.kubeconfig")}
        pods insecure
        ttl 5
    }
    cache 5
}
${upstreamNames.map((name) => `${name}:53`).join(" ")} {
    bind ${controlPlaneAddress}
    hosts {
        ${controlPlaneAddress} ${upstreamNames.join(" ")}
    }
}
.:53 {
    bind ${controlPlaneAddress}
    template IN ANY . {
        rcode NXDOMAIN
    }
}
`;
}

/** Objects that make CoreDNS, which runs beside the cluster, the cluster's DNS Service. */
export function dnsObjects(clusterIP: string): unknown[] {
  const ports = [
    { name: "dns", port: 53, protocol: "UDP" },
    { name: "dns-tcp", port: 53, protocol: "TCP" },
  ];
  const metadata = { name: "kube-dns", namespace: "kube-system" };
  return [
    { apiVersion: "v1", kind: "Service", metadata, spec: { clusterIP, ports } },
    {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { ...metadata, labels: { "kubernetes.io/service-name": "kube-dns" } },
      addressType: "IPv4",
      endpoints: [{ addresses: [controlPlaneAddress], conditions: { ready: true } }],
      ports,
    },
  ];
}
