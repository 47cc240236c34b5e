import { Command, Option } from "commander";

/** What can be said to `coral explain pod`. */
export interface ExplainFlags {
  readonly filename?: readonly string[];
  readonly namespace?: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly createdBy?: string;
  readonly createdByGroup?: readonly string[];
  readonly coralNamespace: string;
  readonly output?: "json";
}

/**
 * Declares `coral explain …`. Wrong flags and `--help` are a `CommanderError`, once they are told.
 *
 * @param run - carries out `coral explain pod`; it is given the pod's name, or files.
 */
export function explainCommand(
  run: (name: string | undefined, flags: ExplainFlags) => Promise<void>,
): Command {
  const command = new Command("pod")
    .description("Says what admission does with each image of a pod, and why.")
    .argument("[name]", "a pod of the cluster")
    .option("-f, --filename <file>", 'file of pods, "-" for stdin; repeatable', collect)
    .option("-n, --namespace <name>", "the pod's namespace")
    .option("--kubeconfig <file>", "how to reach the cluster, instead of KUBECONFIG")
    .option("--context <name>", "which context of the kubeconfig")
    .option("--created-by <user>", "who makes the pod, by user name; you, or what owns the pod")
    .option("--created-by-group <group>", "a group of who makes it; repeatable", collect)
    .option("--coral-namespace <name>", "where Coral runs", "coral-system")
    .addOption(new Option("-o, --output <form>", "write it for programs").choices(["json"]))
    .addHelpText("after", examples)
    .showHelpAfterError('See "coral explain pod --help".')
    .exitOverride()
    .action(async (name: string | undefined, flags: ExplainFlags) => {
      const isFile = flags.filename !== undefined;
      if ((name === undefined) !== isFile) {
        command.error('error: say either the name of a pod, or "-f FILE", and not both\n');
      }
      await run(name, flags);
    });
  return new Command("coral explain")
    .description("Says what Coral does, and why.")
    .exitOverride()
    .addCommand(command);
}

const examples = `
Examples:
  coral explain pod web-7d9f -n shop         what would become of such a pod, were it made now
  coral explain pod -f pod.yaml              the same of a pod that is not there yet
  coral explain pod -f pod.yaml --created-by system:serviceaccount:ci:builder
  kubectl get pod web-7d9f -o yaml | coral explain pod -f - -o json

It decides as the webhook does, from what the cluster has now, and changes nothing.

Exit codes: 0 the pod is let in, 1 it would be refused, 2 it cannot be told: wrong flags, file or
cluster; 130 Ctrl-C.`;

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}
