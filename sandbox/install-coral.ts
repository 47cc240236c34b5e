import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { coralNamespace } from "./control-plane.ts";
import { buildCoralImage, type CoralImage } from "./images/coral-image.ts";
import { repositoryRoot } from "./paths.ts";
import { openRegistry, upstreamHosts } from "./registry-hosts.ts";
import type { Sandbox } from "./sandbox.ts";
import { waitFor } from "./wait.ts";

type Scope = { signal: AbortSignal };

/** What an operator sets of a role, by environment variable. */
type Environment = Readonly<Record<string, string>>;

/** What an operator sets of the roles that ask registries. */
interface Environments {
  readonly controller?: Environment;
  readonly mirror?: Environment;
}

/** Coral's image in the sandbox's registry. */
const repository = `${openRegistry.host}/coral/coral`;

/** The sandbox's registries, and their token realm, speak plain HTTP: who asks them has to be told. */
const plainHttp = upstreamHosts.map(({ host }) => host).join(",");

/**
 * Builds Coral's image, pushes it and applies the manifests of `deploy/` as a user would, with an
 * overlay that sets the image's name and settings and nothing else. Returns when the controller, the
 * mirror's workers and every agent are ready.
 */
export async function installCoral(
  sandbox: Sandbox,
  { controller = {}, mirror = {}, signal }: Scope & Environments,
): Promise<CoralImage> {
  const image = await buildCoralImage({ signal });
  await sandbox.push(image.folder, `${repository}:dev`, { signal });
  const folder = sandbox.layout.path("install");
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, "overlay"), { recursive: true });
  await cp(join(repositoryRoot, "deploy"), join(folder, "deploy"), { recursive: true });
  const overlay = {
    apiVersion: "kustomize.config.k8s.io/v1beta1",
    kind: "Kustomization",
    resources: ["../deploy"],
    images: [{ name: "coral", newName: repository, newTag: "dev" }],
    patches: Object.entries({ controller, mirror }).map(([role, environment]) =>
      environmentPatch(`coral-${role}`, { CORAL_PLAIN_HTTP_REGISTRIES: plainHttp, ...environment }),
    ),
  };
  await writeFile(join(folder, "overlay/kustomization.yaml"), JSON.stringify(overlay));
  const apply = ["apply", "--server-side", "-k", join(folder, "overlay")];
  // A custom resource or policy may need a moment after its definition: applying again is harmless.
  await waitFor(async () => (await sandbox.kubectl(apply, { signal })).exitCode === 0, {
    what: "Coral's manifests to be accepted",
    timeoutMs: 20_000,
    everyMs: 500,
    signal,
  });
  await coralReady(sandbox, { signal });
  return image;
}

/** A kustomize patch that adds to a Deployment's environment. */
function environmentPatch(name: string, environment: Environment): unknown {
  const path = "/spec/template/spec/containers/0/env/-";
  const operations = Object.entries(environment).map(([variable, value]) => ({
    op: "add",
    path,
    value: { name: variable, value },
  }));
  const target = { kind: "Deployment", name };
  return { target, patch: JSON.stringify(operations) };
}

/** Waits until the controller, a worker of the mirror, and an agent on every node are available. */
export async function coralReady(sandbox: Sandbox, { signal }: Scope): Promise<void> {
  const query = ["-n", coralNamespace, "get"];
  const nodes = sandbox.nodes.length;
  const look = async (): Promise<boolean> => {
    const agents = ["ds/coral-agent", "-o", "jsonpath={.status.numberAvailable}"];
    const replicas = ["-o", "jsonpath={.status.availableReplicas}"];
    const [agent, controller, mirror] = await Promise.all([
      sandbox.kubectl([...query, ...agents], { signal }),
      sandbox.kubectl([...query, "deploy/coral-controller", ...replicas], { signal }),
      sandbox.kubectl([...query, "deploy/coral-mirror", ...replicas], { signal }),
    ]);
    return (
      Number(agent.stdout) === nodes && Number(controller.stdout) > 0 && Number(mirror.stdout) > 0
    );
  };
  await waitFor(look, {
    what: "Coral's controller, workers and agents to be ready",
    timeoutMs: 120_000 + nodes * 5_000,
    everyMs: 250,
    explain: async () => {
      const pods = ["-n", coralNamespace, "describe", "pods"];
      return (await sandbox.kubectl(pods, { signal })).stdout.split("\n").slice(-40).join("\n");
    },
    signal,
  });
}
