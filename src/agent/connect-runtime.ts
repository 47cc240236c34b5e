import { fullJitter } from "#async/backoff.ts";
import type { Clock } from "#async/clock.ts";
import type { Log } from "#telemetry/log.ts";

/** Where container runtimes listen, the most common first. */
export const knownSockets: readonly string[] = [
  "/run/containerd/containerd.sock",
  "/run/k3s/containerd/containerd.sock", // k3s and RKE2
  "/run/crio/crio.sock",
  "/var/run/crio/crio.sock",
  "/var/snap/microk8s/common/run/containerd.sock",
  "/run/k0s/containerd.sock",
];

/** A socket may be there and silent. The next one, or the next round, may do better. */
const connectTimeoutMs = 10_000;

const backoff = { minMs: 500, maxMs: 10_000 };

export interface ConnectRuntimeOptions<T> {
  /** Socket paths, in the order in which they are tried. */
  sockets: readonly string[];
  connect: (socketPath: string, options: { signal: AbortSignal }) => Promise<T>;
  clock: Clock;
  random: () => number;
  log: Log;
}

/** Connects to the first runtime that answers, however long that takes to appear. */
export async function connectRuntime<T>(
  { sockets, connect, clock, random, log }: ConnectRuntimeOptions<T>,
  { signal }: { signal: AbortSignal },
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const errors: unknown[] = [];
    for (const socketPath of sockets) {
      const tooLong = AbortSignal.timeout(connectTimeoutMs);
      try {
        return await connect(socketPath, { signal: AbortSignal.any([signal, tooLong]) });
      } catch (error) {
        signal.throwIfAborted();
        errors.push(error);
      }
    }
    const error = new AggregateError(errors, "No container runtime answers");
    if (attempt === 1) log.warn("container runtime not found, trying on", { sockets, error });
    await clock.sleep(fullJitter(attempt, { ...backoff, random }), { signal });
  }
}

/** Takes a socket as the kubelet's settings write it, too: `unix:///run/containerd/containerd.sock`. */
export function socketPath(text: string): string {
  return text.replace(/^unix:\/\//, "");
}
