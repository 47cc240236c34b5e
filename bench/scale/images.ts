import { openRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { isJsonObject, type JsonObject } from "#json/json.ts";
import { inParallel } from "./in-parallel.ts";
import { simulatedLabel } from "./nodes.ts";

type Scope = { signal: AbortSignal };

/** Namespace of the Images. */
export const imageNamespace = "scale";

const manifestType = "application/vnd.oci.image.manifest.v1+json";

/** One Image: a repository with tags. */
export interface Application {
  name: string;
  repository: string;
  tags: string[];
}

export function applications(images: number, tags: number): Application[] {
  return Array.from({ length: images }, (_, index) =>
    anApplication(`app-${String(index).padStart(3, "0")}`, tags),
  );
}

export function anApplication(name: string, tags: number): Application {
  return {
    name,
    repository: `scale/${name}`,
    tags: Array.from({ length: tags }, (_, tag) => `v1.${tag}`),
  };
}

/** References of an application's images, as an Image's plan has them. */
export function referencesOf({ repository, tags }: Application): string[] {
  return tags.map((tag) => `${openRegistry.host}/${repository}:${tag}`);
}

/** The Image that asks for an application on every simulated node. */
export function imageObject({ name, repository, tags }: Application): {
  metadata: JsonObject;
  spec: JsonObject;
} & JsonObject {
  return {
    apiVersion: "stvz.io/v1",
    kind: "Image",
    metadata: { name, namespace: imageNamespace },
    spec: {
      selector: [{ key: simulatedLabel, operator: "Exists" }],
      repositories: [{ name: `${openRegistry.host}/${repository}`, tags }],
    },
  };
}

/**
 * Puts the sandbox's small image into its open registry under each tag: its blobs are mounted, so
 * that only manifests are written, each with a digest of its own.
 *
 * @returns the digest of each reference.
 */
export async function pushApplications(
  sandbox: Sandbox,
  wanted: readonly Application[],
  { signal }: Scope,
): Promise<Record<string, string>> {
  const registry = `http://127.0.0.1:${sandbox.ports.registry}/v2`;
  const [source = "", sourceTag = ""] = Sandbox.images.small
    .slice(openRegistry.host.length + 1)
    .split(":");
  const manifest = await readManifest(`${registry}/${source}/manifests/${sourceTag}`, { signal });
  const digests: Record<string, string> = {};
  const push = async ({ repository, tags }: Application): Promise<void> => {
    for (const digest of blobsOf(manifest)) {
      const query = new URLSearchParams({ mount: digest, from: source });
      const mount = `${registry}/${repository}/blobs/uploads/?${query.toString()}`;
      await expectCreated(await fetch(mount, { method: "POST", signal: within(signal) }));
    }
    for (const tag of tags) {
      const annotations = { "org.opencontainers.image.ref.name": `${repository}:${tag}` };
      const answer = await fetch(`${registry}/${repository}/manifests/${tag}`, {
        method: "PUT",
        headers: { "content-type": manifestType },
        body: JSON.stringify({ ...manifest, annotations }),
        signal: within(signal),
      });
      await expectCreated(answer);
      const digest = answer.headers.get("docker-content-digest") ?? "";
      digests[`${openRegistry.host}/${repository}:${tag}`] = digest;
    }
  };
  await inParallel(wanted, 8, push, { signal });
  return digests;
}

async function readManifest(url: string, { signal }: Scope): Promise<JsonObject> {
  const answer = await fetch(url, { headers: { accept: manifestType }, signal: within(signal) });
  const manifest: unknown = await answer.json();
  if (answer.ok && isJsonObject(manifest)) return manifest;
  throw new Error(`The manifest "${url}" was answered with ${answer.status}`);
}

function blobsOf({ config, layers }: JsonObject): string[] {
  const descriptors: unknown[] = [config, ...(Array.isArray(layers) ? layers : [])];
  return descriptors.flatMap((descriptor) => {
    const digest = isJsonObject(descriptor) ? descriptor["digest"] : undefined;
    return typeof digest === "string" ? [digest] : [];
  });
}

async function expectCreated(answer: Response): Promise<void> {
  if (answer.status === 201) {
    await answer.body?.cancel();
    return;
  }
  const text = (await answer.text()).slice(0, 300);
  throw new Error(`The registry answered ${answer.status} to "${answer.url}": ${text}`);
}

function within(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(20_000)]);
}
