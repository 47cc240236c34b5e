import { isAbort } from "#async/abort.ts";
import type { Log } from "#telemetry/log.ts";

export interface RunOptions {
  log: Log;
  /**
   * Longest time from the signal to the end, in milliseconds. Keep it under the pod's
   * `terminationGracePeriodSeconds`, so that the log says what hung before the kubelet kills.
   */
  drainTimeoutMs: number;
}

/**
 * Runs a service until it returns, fails, or the process is asked to stop.
 *
 * It does not call `process.exit`, which would cut off log lines still in flight: the process ends
 * when the service has let go of everything. The same signal again kills it, because `once` has by
 * then given the signal its default meaning back. The one exception is a drain that hangs.
 */
export async function runProcess(
  { log, drainTimeoutMs }: RunOptions,
  service: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  let lastResort: NodeJS.Timeout | undefined;
  const onSignal = (name: NodeJS.Signals): void => {
    log.info("stopping", { signal: name });
    stop.abort(new Error(`Received ${name}`));
    lastResort ??= setTimeout(giveUp, drainTimeoutMs).unref();
  };
  const giveUp = (): void => {
    const resources = [...new Set(process.getActiveResourcesInfo())];
    log.error("drain timed out", { durationSeconds: drainTimeoutMs / 1_000, resources });
    process.exit(1); // Something will not let go, and would hold the pod until it is killed.
  };
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  try {
    await service(stop.signal);
  } catch (error) {
    if (isAbort(error, stop.signal)) return;
    log.error("service failed", { error });
    process.exitCode = 1;
  } finally {
    // The timer stays: what is still open after the service's return can hold the process too.
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}
