import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { aCertificate } from "#test/certificates.ts";
import type { WebhookHost } from "./load.ts";

const serverName = "coral-controller.coral-system.svc";

/** Longest time to fill the caches, and how often it is asked whether they are. */
const readyTimeoutMs = 60_000;
const askEveryMs = 100;

/** What a replica says is kept up to here, for errors. */
const maxOutput = 64 * 1024;

export interface ReplicaOptions {
  /** Of its own: certificates are written into it. */
  folder: string;
  kubeconfig: string;
  signal: AbortSignal;
}

/** `coral controller` as a process of its own. */
export class Replica implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly host: WebhookHost;

  private constructor(child: ChildProcess, host: WebhookHost) {
    this.#child = child;
    this.host = host;
  }

  /** Starts a replica, and waits until its caches are filled. @throws {Error} if it does not get so far. */
  static async start(
    program: readonly string[],
    { folder, kubeconfig, signal }: ReplicaOptions,
  ): Promise<Replica> {
    const tls = join(folder, "tls");
    const { cert, key, ca } = aCertificate(serverName);
    await mkdir(tls);
    await writeFile(join(tls, "tls.crt"), cert);
    await writeFile(join(tls, "tls.key"), key);
    await writeFile(join(tls, "ca.crt"), ca);
    const [httpsPort, healthPort] = await freePorts();
    const [file = "", ...args] = program;
    const child = spawn(file, [...args, "controller"], {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        NODE_ENV: "production",
        KUBECONFIG: kubeconfig,
        POD_NAMESPACE: "coral-system",
        POD_NAME: "bench",
        CORAL_TLS_DIR: tls,
        CORAL_HTTPS_PORT: String(httpsPort),
        CORAL_HEALTH_PORT: String(healthPort),
      },
    });
    const replica = new Replica(child, { port: httpsPort, ca, serverName });
    let said = "";
    child.stderr.on("data", (piece: Buffer) => {
      said = (said + piece.toString()).slice(-maxOutput);
    });
    try {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(readyTimeoutMs)]);
      while (!(await isReady(healthPort))) {
        if (child.exitCode !== null) throw new Error(`The replica ended:\n${said}`);
        await sleep(askEveryMs, undefined, { signal: deadline });
      }
    } catch (error) {
      await replica[Symbol.asyncDispose]();
      signal.throwIfAborted();
      throw new Error(`The replica is not ready:\n${said}`, { cause: error });
    }
    return replica;
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error("The replica did not start");
    return pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

async function isReady(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/readyz`)).ok;
  } catch {
    return false; // It does not listen yet.
  }
}

/** Ports that nobody has; two at once, so that they differ. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports: number[] = [];
  for (const server of servers) {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address !== null && typeof address !== "string") ports.push(address.port);
  }
  for (const server of servers) {
    server.close();
    await once(server, "close");
  }
  const [first = 0, second = 0] = ports;
  return [first, second];
}
