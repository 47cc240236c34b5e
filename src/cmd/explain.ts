import { homedir } from "node:os";
import { delimiter, join } from "node:path";

import { isAbort } from "#async/abort.ts";
import { creatorOf, readCluster, readPod, whoAmI } from "#cli/explain-cluster.ts";
import { explainCommand, type ExplainFlags } from "#cli/explain-flags.ts";
import { formatExplanation } from "#cli/explain-text.ts";
import { explainPod, type GivenPod } from "#cli/explanation.ts";
import { Interrupt } from "#cli/interrupt.ts";
import { parsePodFiles } from "#cli/pod-file.ts";
import { readInput } from "#cli/read-input.ts";
import { KubeClient } from "#kube/client.ts";
import { ClusterConfigError, kubeconfigFile, type ClusterConfig } from "#kube/cluster-config.ts";
import { ApiError, ApiUnreachableError, ResponseTooLargeError } from "#kube/errors.ts";
import { MalformedObjectError } from "#kube/shape.ts";
import { silentLog } from "#telemetry/log.ts";
import packageJson from "#package.json" with { type: "json" };
import { parseCommand, say } from "./person-command.ts";
import type { ProcessInput } from "./role.ts";

/**
 * Runs `coral explain …` on the user's machine, against the cluster of their kubeconfig.
 *
 * The exit code is 0 if the pods would be let in, 1 if one would be refused, 2 if it cannot be told, and
 * 130 after Ctrl-C.
 */
export async function runExplainCommand({ env, argv }: ProcessInput): Promise<void> {
  const command = explainCommand(async (name, flags) => {
    process.exitCode = await run(name, flags, env);
  });
  await parseCommand(command, argv);
}

async function run(
  name: string | undefined,
  flags: ExplainFlags,
  env: ProcessInput["env"],
): Promise<number> {
  using interrupt = new Interrupt(say);
  try {
    return await explain(name, flags, { env, signal: interrupt.signal });
  } catch (error) {
    if (isAbort(error, interrupt.signal)) return interrupt.exitCode ?? 2;
    if (!isOfCluster(error)) throw error;
    say(error.message);
    if (error instanceof ApiError && error.status === 403) {
      say('docs/admission.md, "Explain", lists the rights that it takes');
    }
    if (error instanceof ApiError && error.status === 404) say("Is Coral in this cluster?");
    return 2;
  }
}

function isOfCluster(error: unknown): error is Error {
  return (
    error instanceof ClusterConfigError ||
    error instanceof ApiError ||
    error instanceof ApiUnreachableError ||
    error instanceof MalformedObjectError ||
    error instanceof ResponseTooLargeError
  );
}

async function explain(
  name: string | undefined,
  flags: ExplainFlags,
  { env, signal }: { env: ProcessInput["env"]; signal: AbortSignal },
): Promise<number> {
  const input = await readInput(flags.filename ?? [], process.stdin);
  const files = parsePodFiles(input.files);
  const unreadable = input.problems.map(({ file, message }) => `${file}: ${message}`);
  const problems = [...unreadable, ...files.problems];
  for (const problem of problems) say(problem);
  if (problems.length > 0) return 2;
  for (const note of files.notes) say(`note: ${note}`);
  if (name === undefined && files.pods.length === 0) {
    say("There is no Pod in what was given by --filename");
    return 2;
  }

  const config = await clusterOf(flags, env);
  const userAgent = `coral-explain/${packageJson.version}`;
  await using client = new KubeClient({ config, log: silentLog, userAgent });
  const given = await givenPods(name, { flags, files: files.pods, config, client, signal });
  if (typeof given === "string") {
    say(given);
    return 2;
  }
  const { coralNamespace: ownNamespace } = flags;
  const view = await readCluster(client, { ownNamespace, signal });
  for (const note of view.notes) say(`note: ${note}`);
  const explanations = given.map((pod) => explainPod(pod, view));
  process.stdout.write(
    flags.output === "json"
      ? `${JSON.stringify({ version: 1, pods: explanations }, undefined, 2)}\n`
      : explanations.map(formatExplanation).join("\n"),
  );
  return explanations.some(({ verdict }) => verdict === "refused") ? 1 : 0;
}

interface GivenOptions {
  readonly flags: ExplainFlags;
  readonly files: ReturnType<typeof parsePodFiles>["pods"];
  readonly config: ClusterConfig;
  readonly client: KubeClient;
  readonly signal: AbortSignal;
}

/** @returns a text for what cannot be explained. */
async function givenPods(
  name: string | undefined,
  { flags, files, config, client, signal }: GivenOptions,
): Promise<GivenPod[] | string> {
  const namespace = flags.namespace ?? config.namespace ?? "default";
  const { createdBy: user, createdByGroup: groups = [] } = flags;
  const named =
    user === undefined && groups.length === 0 ? undefined : { user: user ?? "", groups };
  let self: GivenPod["creator"] | undefined;
  const creator = async (object: GivenPod["object"]): Promise<GivenPod["creator"]> => {
    const known = named ?? creatorOf(object);
    if (known) return known;
    self ??= (await whoAmI(client, { signal })) ?? { user: "", groups: [] };
    return self;
  };
  if (name !== undefined) {
    const object = await readPod(client, { name, namespace, signal });
    if (!object) return `There is no pod "${name}" in the namespace "${namespace}"`;
    return [{ name, namespace, object, creator: await creator(object) }];
  }
  const stray = files.find(
    (pod) => flags.namespace !== undefined && (pod.namespace ?? namespace) !== namespace,
  );
  if (stray) {
    return `--namespace must be "${stray.namespace}", as of the pod "${stray.name}", and is "${namespace}"`;
  }
  const given: GivenPod[] = [];
  for (const pod of files) {
    const creatorOfPod = await creator(pod.object);
    given.push({ ...pod, namespace: pod.namespace ?? namespace, creator: creatorOfPod });
  }
  return given;
}

/** Finds the kubeconfig where kubectl does. @throws {ClusterConfigError} */
async function clusterOf(
  { kubeconfig, context }: ExplainFlags,
  env: ProcessInput["env"],
): Promise<ClusterConfig> {
  const listed = (env["KUBECONFIG"] ?? "").split(delimiter).filter(Boolean);
  if (kubeconfig === undefined && listed.length > 1) {
    throw new ClusterConfigError("KUBECONFIG", "must name one file; or name one by --kubeconfig");
  }
  const path = kubeconfig ?? listed[0] ?? join(homedir(), ".kube", "config");
  return kubeconfigFile(path, { context });
}
