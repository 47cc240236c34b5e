import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, open } from "node:fs/promises";
import { createServer } from "node:net";
import { dirname, join } from "node:path";

import { insideControlPlane } from "#sandbox/control-plane.ts";
import type { Daemons } from "#sandbox/daemon.ts";
import type { Layout } from "#sandbox/layout.ts";
import type { Target } from "./target.ts";

/**
 * Starts a forwarder: for each target a port on the host's 127.0.0.1 that leads to it.
 *
 * @returns the ports, in the order of the targets.
 */
export async function startForwarder(
  id: string,
  targets: readonly Target[],
  { layout, daemons, signal }: { layout: Layout; daemons: Daemons; signal: AbortSignal },
): Promise<number[]> {
  const logFile = layout.logOf(id);
  await mkdir(dirname(logFile), { recursive: true });
  await using log = await open(logFile, "a");
  const main = join(import.meta.dirname, "main.ts");
  const [file = "", ...args] = insideControlPlane(layout, [process.execPath, main]);
  const child = spawn(file, args, { detached: true, stdio: ["ignore", log.fd, log.fd, "ipc"] });
  await once(child, "spawn", { signal });
  await daemons.record(id, child.pid ?? 0);
  const ports: number[] = [];
  for (const target of targets) {
    const listener = createServer().listen({ host: "127.0.0.1", port: 0 });
    await once(listener, "listening", { signal });
    const address = listener.address();
    if (address === null || typeof address === "string") throw new Error("A listener has no port");
    ports.push(address.port);
    child.send(target, listener);
    await once(child, "message", {
      signal: AbortSignal.any([signal, AbortSignal.timeout(30_000)]),
    });
    listener.close(); // The child has its own copy by now.
  }
  child.disconnect();
  child.unref();
  return ports;
}
