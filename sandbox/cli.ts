import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { spawn } from "node:child_process";
import { once } from "node:events";

import { Command, InvalidArgumentError } from "commander";

import { insideControlPlane } from "./control-plane.ts";
import { Layout, maxNodes } from "./layout.ts";
import { insideNode } from "./node-daemons.ts";
import { lockFolder } from "./lock.ts";
import { cacheFolder } from "./paths.ts";
import { Sandbox } from "./sandbox.ts";
import { listSandboxes, tearDown } from "./tear-down.ts";
import { toolsFolder } from "./toolchain/build.ts";

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(name, () => stop.abort(new Error(`Received ${name}`)));
}
const { signal } = stop;
const report = (line: string): void => console.error(line);

const program = new Command("sandbox")
  .description(
    "A real Kubernetes cluster on this machine, for trying, testing and measuring Coral.",
  )
  .showHelpAfterError();

const nameOption = ["--name <name>", "which sandbox", "coral"] as const;

program
  .command("up")
  .description("start a cluster and leave it running")
  .option(...nameOption)
  .option("--nodes <count>", "nodes to start with", parseCount, 3)
  .action(async ({ name, nodes }: { name: string; nodes: number }) => {
    const running = await Sandbox.attach(name, { signal });
    const components = (await running?.components()) ?? [];
    if (components.some(({ id, pid }) => id === "kube-apiserver" && pid !== undefined)) {
      report(`sandbox "${name}" is up already; "npm run sandbox -- down" ends it`);
      return;
    }
    const start = performance.now();
    const sandbox = await Sandbox.start({ name, nodes, keep: true, report, signal });
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    report(`sandbox "${name}" is up with ${nodes} nodes after ${seconds} s`);
    report(`kubeconfig: ${sandbox.kubeconfig}`);
  });

program
  .command("status")
  .description("say which sandboxes there are and what runs in them")
  .action(async () => {
    const names = await listSandboxes();
    if (names.length === 0) report('no sandbox; "npm run sandbox -- up" starts one');
    for (const name of names) {
      const sandbox = await Sandbox.attach(name, { signal });
      console.log(`${name}${sandbox ? "" : " (not started in full)"}`);
      for (const { id, pid } of (await sandbox?.components()) ?? []) {
        console.log(`  ${id.padEnd(26)} ${pid ?? "does not run"}`);
      }
    }
  });

program
  .command("exec")
  .description("run a command inside the control plane's network, or on a node")
  .option(...nameOption)
  .option("--node <node>", "the node, such as node1")
  .argument("<command...>", 'the command, after "--"')
  .action(async (command: string[], options: { name: string; node?: string }) => {
    const sandbox = await attach(options.name);
    const { node } = options;
    const argv =
      node === undefined
        ? insideControlPlane(sandbox.layout, command)
        : insideNode(await sandbox.node(node).anchorPid(), command);
    const env = {
      ...process.env,
      PATH: sandbox.programs.path,
      KUBECONFIG: `${sandbox.layout.pki}/admin.kubeconfig`,
    };
    const [file = "", ...args] = argv;
    const child = spawn(file, args, { stdio: "inherit", env, signal });
    const [exitCode] = await once(child, "close");
    process.exitCode = typeof exitCode === "number" ? exitCode : 1;
  });

program
  .command("kubeconfig")
  .description("print the path of a kubeconfig for programs of this machine")
  .option(...nameOption)
  .action(async ({ name }: { name: string }) => console.log((await attach(name)).kubeconfig));

program
  .command("logs")
  .description("print the last lines of a component's log")
  .option(...nameOption)
  .option("--lines <count>", "how many", parseCount, 50)
  .argument("<component>", 'as "status" lists it: "kube-apiserver", "node1/kubelet"')
  .action(async (component: string, { name, lines }: { name: string; lines: number }) => {
    console.log(await (await attach(name)).logs(component, lines));
  });

for (const [verb, what] of [
  ["stop", "ask a component to end"],
  ["kill", "end a component at once, as a crash would"],
  ["start", "start a component that was stopped or killed"],
] as const) {
  program
    .command(verb)
    .description(what)
    .option(...nameOption)
    .argument("<component>", 'as "status" lists it: "etcd", "node1/containerd"')
    .action(async (component: string, { name }: { name: string }) => {
      await (await attach(name))[verb](component, { signal });
    });
}

program
  .command("add-node")
  .description("join a node to the running cluster")
  .option(...nameOption)
  .action(async ({ name }: { name: string }) => {
    console.log((await (await attach(name)).addNode({ signal })).name);
  });

program
  .command("remove-node")
  .description("take a node away for good")
  .option(...nameOption)
  .argument("<node>")
  .action(async (node: string, { name }: { name: string }) => {
    await (await attach(name)).removeNode(node, { signal });
  });

program
  .command("link")
  .description("cut or restore a node's link, or limit its rate in megabits per second")
  .option(...nameOption)
  .argument("<node>")
  .argument("<state>", '"cut", "restore", or a number')
  .action(async (nodeName: string, state: string, { name }: { name: string }) => {
    const node = (await attach(name)).node(nodeName);
    if (state === "cut") await node.cutLink({ signal });
    else if (state === "restore") {
      await node.restoreLink({ signal });
      await node.limitRate(undefined, { signal });
    } else await node.limitRate(parseCount(state), { signal });
  });

program
  .command("down")
  .description("end a sandbox and remove everything of it")
  .option(...nameOption)
  .option("--all", "end every sandbox of this machine")
  .action(async ({ name, all }: { name: string; all?: boolean }) => {
    const names = all ? await listSandboxes() : [name];
    for (const each of names) await tearDown(new Layout(each), { signal });
    report(names.length === 0 ? "no sandbox" : `ended: ${names.join(", ")}`);
  });

program
  .command("clean")
  .description("remove the built programs and Go's caches (several gigabytes)")
  .action(async () => {
    const running = await listSandboxes();
    if (running.length > 0) {
      throw new Error(`Sandboxes use the programs; end them first: ${running.join(", ")}`);
    }
    await mkdir(cacheFolder(), { recursive: true });
    await using _lock = await lockFolder(toolsFolder(), { timeoutMs: 1_000, signal });
    // Go keeps its module cache read-only.
    const chmod = spawn("chmod", ["-R", "u+w", cacheFolder()], { stdio: "inherit" });
    await once(chmod, "close");
    // All but the lock, which is given back when this ends.
    for (const name of await readdir(cacheFolder())) {
      const path = join(cacheFolder(), name);
      if (path !== toolsFolder()) await rm(path, { recursive: true, force: true });
    }
    for (const name of await readdir(toolsFolder())) {
      if (!name.startsWith(".lock")) await rm(join(toolsFolder(), name), { recursive: true });
    }
    report(`removed ${cacheFolder()}`);
  });

async function attach(name: string): Promise<Sandbox> {
  const sandbox = await Sandbox.attach(name, { signal });
  if (!sandbox) throw new Error(`No sandbox "${name}" is up; "npm run sandbox -- up" starts one`);
  return sandbox;
}

function parseCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 0) return count;
  throw new InvalidArgumentError(
    `must be a whole number of at least 0, and for nodes at most ${maxNodes}`,
  );
}

try {
  await program.parseAsync();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
