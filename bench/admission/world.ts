import { imageLabel } from "#api/v1/labels.ts";
import {
  imagePlans,
  imagePolicies,
  images,
  mirrors,
  mirrorShards,
  nodeReports,
} from "#api/v1/resources.ts";
import { leases, namespaces, nodes } from "#kube/resource.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { anImage } from "#test/kinds.ts";

/** How large the cluster is. */
export const size = { nodes: 1_000, images: 200, policies: 50, namespaces: 100 } as const;

/** Tags that each Image asks for; half of the Images are on a node. */
const tagsPerImage = 3;

/** Every tenth namespace is of a tier that no policy selects. */
export const freeNamespaces = namesOf(size.namespaces, (index) => index % 10 === 9);
export const forcedNamespaces = namesOf(size.namespaces, (index) => index % 10 !== 9);

function namesOf(count: number, has: (index: number) => boolean): string[] {
  return Array.from({ length: count }, (_, index) => index)
    .filter(has)
    .map((index) => `team-${index}`);
}

/** The references of an Image. Each policy decides about those of `images / policies` of them. */
export function referencesOf(image: number): string[] {
  return Array.from(
    { length: tagsPerImage },
    (_, tag) => `registry.example/team-${image % size.policies}/app-${image}:1.${tag}.0`,
  );
}

const lease = { namespace: "coral-system", name: "coral-controller" };

/** How often the replica that leads, which is none, gives a sign of life. */
const renewMs = 3_000;

/** An API server with a large cluster in it, in which another replica of the controller leads. */
export class AdmissionWorld implements AsyncDisposable {
  readonly #server: FakeApiServer;
  readonly #renewing: NodeJS.Timeout;

  private constructor(server: FakeApiServer) {
    this.#server = server;
    server.create(leases, leaseAt(new Date()));
    this.#renewing = setInterval(() => {
      const { spec } = leaseAt(new Date());
      server.merge(leases, `${lease.namespace}/${lease.name}`, { spec });
    }, renewMs);
  }

  static async start(): Promise<AdmissionWorld> {
    const coral = [images, imagePlans, imagePolicies, nodeReports, mirrors, mirrorShards];
    const server = await FakeApiServer.start({ resources: [...coral, namespaces] });
    fill(server);
    return new AdmissionWorld(server);
  }

  /** A kubeconfig for it. */
  get kubeconfig(): string {
    return JSON.stringify({
      "current-context": "bench",
      contexts: [{ name: "bench", context: { cluster: "bench", user: "bench" } }],
      clusters: [{ name: "bench", cluster: { server: this.#server.config.server.href } }],
      users: [{ name: "bench", user: {} }],
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#renewing);
    await this.#server[Symbol.asyncDispose]();
  }
}

function leaseAt(now: Date): { metadata: typeof lease; spec: object } {
  const renewTime = now.toISOString().replace("Z", "000Z");
  const spec = { holderIdentity: "another", leaseDurationSeconds: 15, renewTime };
  return { metadata: lease, spec };
}

function fill(server: FakeApiServer): void {
  for (let index = 0; index < size.namespaces; index++) {
    const name = `team-${index}`;
    const tier = freeNamespaces.includes(name) ? "free" : "forced";
    server.create(namespaces, { metadata: { name, labels: { tier } } });
  }
  for (let image = 0; image < size.images; image++) {
    const key = { name: `app-${image}`, namespace: `team-${image % size.namespaces}` };
    const references = referencesOf(image).map((reference) => ({ reference }));
    const repository = referencesOf(image)[0]?.split(":")[0] ?? "";
    const tags = references.map(({ reference }) => reference.split(":")[1] ?? "");
    const spec = { repositories: [{ name: repository, tags, listSelection: "listed" as const }] };
    server.create(images, anImage(spec, key));
    server.create(imagePlans, {
      metadata: key,
      spec: { selector: [], priority: 0, images: references },
    });
  }
  for (let policy = 0; policy < size.policies; policy++) {
    server.create(imagePolicies, {
      metadata: { name: `team-${policy}` },
      spec: {
        priority: policy % 5,
        mode: "Force",
        namespaceSelector: { matchLabels: { tier: "forced" } },
        images: [`registry.example/team-${policy}/**`],
        pullPolicy: "Never",
        nodes: "Required",
        minNodes: 2,
        admit: "OnlyAvailable",
        enforcement: "Enforce",
      },
    });
  }
  for (let node = 0; node < size.nodes; node++) {
    server.create(nodes, nodeOf(node));
    const conditions = [{ type: "Ready", status: "True" }];
    server.merge(nodes, `node-${node}`, { status: { conditions } });
  }
}

/** Images with even numbers are on nodes with even numbers. */
function nodeOf(node: number): object {
  const name = `node-${node}`;
  const held = Array.from({ length: size.images }, (_, image) => image).filter(
    (image) => image % 2 === node % 2,
  );
  return {
    metadata: {
      name,
      labels: {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": `zone-${node % 3}`,
        "node.kubernetes.io/instance-type": "large",
        ...Object.fromEntries(
          held.flatMap(referencesOf).map((reference) => [imageLabel(reference), "available"]),
        ),
      },
    },
    spec: node % 10 === 0 ? { taints: [{ key: "gpu", value: "true", effect: "NoSchedule" }] } : {},
  };
}
