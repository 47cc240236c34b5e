import { forcedNamespaces, freeNamespaces, referencesOf, size } from "./world.ts";

/** About what a pod of a real application takes: an API server sends all of it. */
export const podBytes = 10_000;

/** Different pods, so that answers cannot be remembered. */
const variants = 500;

/** Reviews of new pods whose images policies decide about, as an API server sends them. */
export function forcedReviews(): Buffer[] {
  return reviewsOf(forcedNamespaces);
}

/** Reviews of new pods that no policy selects. */
export function freeReviews(): Buffer[] {
  return reviewsOf(freeNamespaces);
}

function reviewsOf(namespaces: readonly string[]): Buffer[] {
  return Array.from({ length: variants }, (_, index) => {
    const namespace = namespaces[index % namespaces.length] ?? "";
    return Buffer.from(JSON.stringify(reviewOf(namespace, index)));
  });
}

function reviewOf(namespace: string, index: number): object {
  const kind = { group: "", version: "v1", kind: "Pod" };
  const resource = { group: "", version: "v1", resource: "pods" };
  return {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    request: {
      uid: `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`,
      kind,
      resource,
      requestKind: kind,
      requestResource: resource,
      namespace,
      operation: "CREATE",
      userInfo: {
        username: "system:serviceaccount:kube-system:replicaset-controller",
        groups: ["system:serviceaccounts", "system:serviceaccounts:kube-system"],
      },
      object: podOf(namespace, index),
      oldObject: null,
      dryRun: false,
      options: { kind: "CreateOptions", apiVersion: "meta.k8s.io/v1" },
    },
  };
}

/** Three images, of Images that have nodes in common. */
function podOf(namespace: string, index: number): object {
  const reference = (step: number): string =>
    referencesOf((index + 2 * step) % size.images)[index % 3] ?? "";
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      generateName: `app-${index}-7d9f8c6b5-`,
      namespace,
      labels: { app: `app-${index}`, "pod-template-hash": "7d9f8c6b5" },
      ownerReferences: [
        {
          apiVersion: "apps/v1",
          kind: "ReplicaSet",
          name: `app-${index}-7d9f8c6b5`,
          uid: "00000000-0000-4000-8000-000000000001",
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: {
      nodeSelector: { "kubernetes.io/os": "linux" },
      initContainers: [containerOf("migrate", reference(0))],
      containers: [containerOf("app", reference(1)), containerOf("proxy", reference(2))],
      volumes: [{ name: "token", projected: { sources: [{ serviceAccountToken: {} }] } }],
      tolerations: ["not-ready", "unreachable"].map((key) => ({
        key: `node.kubernetes.io/${key}`,
        operator: "Exists",
        effect: "NoExecute",
        tolerationSeconds: 300,
      })),
    },
  };
  const left = podBytes - JSON.stringify(pod).length;
  return {
    ...pod,
    metadata: { ...pod.metadata, annotations: { "example.org/config": "x".repeat(left) } },
  };
}

function containerOf(name: string, image: string): object {
  return {
    name,
    image,
    imagePullPolicy: "IfNotPresent",
    env: Array.from({ length: 20 }, (_, index) => ({
      name: `SETTING_${index}`,
      value: `the value of setting ${index} of ${name}`,
    })),
    ports: [{ name: "http", containerPort: 8080, protocol: "TCP" }],
    readinessProbe: { httpGet: { path: "/ready", port: "http" }, periodSeconds: 5 },
    resources: { requests: { cpu: "100m", memory: "128Mi" }, limits: { memory: "256Mi" } },
    volumeMounts: [{ name: "token", mountPath: "/var/run/secrets", readOnly: true }],
  };
}
