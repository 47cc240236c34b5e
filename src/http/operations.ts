import { metricsContentType } from "#telemetry/metrics.ts";
import type { Reply, Routes } from "./router.ts";

/** Answers probes, with a line for each thing that was looked at. */
export interface Probes {
  started(): { isOk: boolean; lines: readonly string[] };
  live(): { isOk: boolean; lines: readonly string[] };
  ready(): { isOk: boolean; lines: readonly string[] };
}

/** Makes the endpoints that every role has: `/startupz`, `/healthz`, `/readyz` and `/metrics`. */
export function operationsRoutes(probes: Probes, metrics: { render(): string }): Routes {
  return {
    "/startupz": () => probeReply(probes.started()),
    "/healthz": () => probeReply(probes.live()),
    "/readyz": () => probeReply(probes.ready()),
    "/metrics": () => ({ contentType: metricsContentType, body: metrics.render() }),
  };
}

function probeReply({ isOk, lines }: ReturnType<Probes["live"]>): Reply {
  const verdict = isOk ? "ok" : "failed";
  return { status: isOk ? 200 : 503, body: `${[...lines, verdict].join("\n")}\n` };
}
