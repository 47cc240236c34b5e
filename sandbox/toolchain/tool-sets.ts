/** Programs that are built together from one pinned Go module in this folder. */
export interface ToolSet {
  /** Folder with the set's `go.mod` and `go.sum`. */
  name: string;
  /** Binary name to Go package. */
  programs: Readonly<Record<string, string>>;
  cgo: boolean;
  tags?: string;
  /** Set through `-ldflags -X`: import path of a string variable to its value. */
  variables?: Readonly<Record<string, string>>;
  /** Architectures to build for besides the machine's own; binaries get a suffix: `hello-arm64`. */
  alsoFor?: readonly string[];
  /** Built only for who asks for it by name: most sandboxes do without. */
  isOptional?: true;
  /** Build time on two cores with empty caches, in seconds: for the estimate, not a limit. */
  estimateSeconds: number;
}

const kubernetesVersion = "v1.37.2";

/**
 * The sandbox's programs. Kubernetes is linked against the C library, as it was tried; runc needs
 * libseccomp; all others are static.
 */
export const toolSets: readonly ToolSet[] = [
  {
    name: "fixtures",
    programs: { pause: "./pause", hello: "./hello" },
    cgo: false,
    alsoFor: ["amd64", "arm64"],
    estimateSeconds: 30,
  },
  {
    name: "cni",
    programs: {
      bridge: "github.com/containernetworking/plugins/plugins/main/bridge",
      loopback: "github.com/containernetworking/plugins/plugins/main/loopback",
      "host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
      portmap: "github.com/containernetworking/plugins/plugins/meta/portmap",
    },
    cgo: false,
    estimateSeconds: 15,
  },
  {
    name: "clients",
    programs: {
      crane: "github.com/google/go-containerregistry/cmd/crane",
      crictl: "sigs.k8s.io/cri-tools/cmd/crictl",
    },
    cgo: false,
    estimateSeconds: 60,
  },
  {
    name: "runc",
    programs: { runc: "github.com/opencontainers/runc" },
    cgo: true,
    tags: "seccomp",
    estimateSeconds: 20,
  },
  {
    name: "containerd",
    programs: {
      containerd: "github.com/containerd/containerd/v2/cmd/containerd",
      "containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
      ctr: "github.com/containerd/containerd/v2/cmd/ctr",
    },
    cgo: false,
    estimateSeconds: 125,
  },
  {
    name: "registry",
    programs: { registry: "github.com/distribution/distribution/v3/cmd/registry" },
    cgo: false,
    estimateSeconds: 85,
  },
  {
    name: "registry2",
    programs: { "registry-2.8": "." },
    cgo: false,
    isOptional: true,
    estimateSeconds: 30,
  },
  {
    name: "regsync",
    programs: { regsync: "github.com/regclient/regclient/cmd/regsync" },
    cgo: false,
    isOptional: true,
    estimateSeconds: 20,
  },
  {
    name: "signers",
    programs: {
      cosign: "github.com/sigstore/cosign/v3/cmd/cosign",
      oras: "oras.land/oras/cmd/oras",
    },
    cgo: false,
    isOptional: true,
    estimateSeconds: 180,
  },
  {
    name: "etcd",
    programs: { etcd: "go.etcd.io/etcd/server/v3" },
    cgo: false,
    estimateSeconds: 60,
  },
  {
    name: "coredns",
    programs: { coredns: "github.com/coredns/coredns" },
    cgo: false,
    estimateSeconds: 110,
  },
  {
    name: "kubernetes",
    programs: {
      "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
      "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
      "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
      "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
      kubelet: "k8s.io/kubernetes/cmd/kubelet",
      kubectl: "k8s.io/kubernetes/cmd/kubectl",
    },
    cgo: true,
    variables: {
      "k8s.io/component-base/version.gitVersion": kubernetesVersion,
      "k8s.io/client-go/pkg/version.gitVersion": kubernetesVersion,
    },
    estimateSeconds: 420,
  },
  {
    name: "kwok",
    programs: { kwok: "sigs.k8s.io/kwok/cmd/kwok" },
    cgo: false,
    isOptional: true,
    estimateSeconds: 120,
  },
];
