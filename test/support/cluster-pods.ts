import type { Pod } from "#kube/types.ts";

/** What a test says of a pod, or of the pods that a Deployment makes. */
export interface PodWish {
  readonly image: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly namespace?: string;
}

/** Makes a pod. */
export function aPod(
  name: string,
  { namespace = "default", annotations = {}, ...wish }: PodWish,
): object {
  const labels = wish.labels ?? {};
  const metadata = { name, namespace, annotations, labels };
  return { apiVersion: "v1", kind: "Pod", metadata, spec: podSpec(wish) };
}

/** Makes a Deployment. Annotations are its own, not those of its pods. */
export function aDeployment(
  name: string,
  replicas: number,
  { namespace = "default", annotations = {}, ...wish }: PodWish,
): object {
  const labels = { ...wish.labels, app: name };
  const template = { metadata: { labels }, spec: podSpec(wish) };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace, annotations, labels },
    spec: { replicas, selector: { matchLabels: { app: name } }, template },
  };
}

function podSpec({ image }: Pick<PodWish, "image">): object {
  return { terminationGracePeriodSeconds: 0, containers: [{ name: "main", image }] };
}

/** When the image of each container of a pod is pulled. */
export function pullPoliciesOf(pod: Pod | undefined): (string | undefined)[] {
  return pod?.spec?.containers?.map(({ imagePullPolicy }) => imagePullPolicy) ?? [];
}

/** Coral's labels that a pod asks of its node, as often as it does. */
export function labelsOf(pod: Pod | undefined): string[] {
  return JSON.stringify(pod?.spec ?? {}).match(/image\.stvz\.io\/[0-9a-f]{32}/g) ?? [];
}
