import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { insideControlPlane } from "./control-plane.ts";
import type { Daemon } from "./daemon.ts";
import type { Layout } from "./layout.ts";
import type { Programs } from "./toolchain/build.ts";

/** Annotation of the Nodes that KWOK is to keep alive, and whose pods it is to run. */
export const kwokAnnotation = { "kwok.x-k8s.io/node": "fake" } as const;

/** A kubelet's, as Kubernetes sets it: the control plane gives a node up after 50 s of silence. */
const leaseSeconds = 40;

/**
 * Writes KWOK's configuration and returns how it is started. It renews the Leases of the Nodes with
 * {@link kwokAnnotation}, and makes every pod on them Running and Ready at once. What their status
 * says at first is for whoever makes the Nodes.
 */
export async function prepareKwok(layout: Layout, programs: Programs): Promise<Daemon> {
  const config = layout.path("kwok.yaml");
  await writeFile(config, stages.map((stage) => JSON.stringify(stage)).join("\n---\n"));
  const [[annotation, value] = []] = Object.entries(kwokAnnotation);
  const flags = [
    `--kubeconfig=${join(layout.pki, "admin.kubeconfig")}`,
    `--manage-nodes-with-annotation-selector=${annotation}=${value}`,
    `--node-lease-duration-seconds=${leaseSeconds}`,
    "--node-ip=127.0.0.1",
    "--cidr=10.128.0.0/16",
    `--config=${config}`,
  ];
  return { id: "kwok", argv: insideControlPlane(layout, [programs.file("kwok"), ...flags]) };
}

/** KWOK's language: what an object's status becomes, as a Go template. */
const runningPod = `{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
{{ range $type := list "Initialized" "Ready" "ContainersReady" }}
- { type: {{ $type }}, status: "True", lastTransitionTime: {{ $now | Quote }} }
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  restartCount: 0
  state: { running: { startedAt: {{ $now | Quote }} } }
{{ end }}
`;

const healthyNode = `{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ $now | Quote }}
{{ end }}
`;

const ready = '.status.conditions.[] | select( .type == "Ready" ) | .status';
const isStaying = { key: ".metadata.deletionTimestamp", operator: "DoesNotExist" };
const isReady = { key: ready, operator: "In", values: ["True"] };
const isNotReady = { key: ready, operator: "NotIn", values: ["True"] };

const stages = [
  // A kubelet's sign of life in the Node itself, which it gives every five minutes beside its Lease.
  stage("node-heartbeat", "Node", {
    selector: { matchExpressions: [isStaying, isReady] },
    delay: { durationMilliseconds: 240_000, jitterDurationMilliseconds: 360_000 },
    next: { statusTemplate: healthyNode },
  }),
  // The control plane may have missed a Lease, as on a busy machine: the next sign of life heals that.
  stage("node-recover", "Node", {
    selector: { matchExpressions: [isStaying, isNotReady] },
    delay: { durationMilliseconds: 1_000 },
    next: { statusTemplate: healthyNode },
  }),
  stage("pod-ready", "Pod", {
    selector: { matchExpressions: [isStaying, isNotReady] },
    next: { statusTemplate: runningPod },
  }),
  stage("pod-delete", "Pod", {
    selector: { matchExpressions: [{ ...isStaying, operator: "Exists" }] },
    next: { delete: true },
  }),
];

function stage(
  name: string,
  kind: "Node" | "Pod",
  spec: Readonly<Record<string, unknown>>,
): unknown {
  return {
    apiVersion: "kwok.x-k8s.io/v1alpha1",
    kind: "Stage",
    metadata: { name },
    spec: { resourceRef: { apiGroup: "v1", kind }, ...spec },
  };
}
