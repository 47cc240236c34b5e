import { formatTime } from "#api/v1/conditions.ts";
import type { NodeReportStatus, ReportedImage } from "#api/v1/node-report.ts";
import type { PullPermission } from "./may-pull.ts";
import type { RuntimeVersion } from "./runtime.ts";
import type { Finding, TrackedImage } from "./tracked-image.ts";

/** What a NodeReport's texts have room for, in characters. */
const maxMessageChars = 256;
const maxNameChars = 64;
const maxVersionChars = 128;

/**
 * All messages together. etcd takes objects of up to 1.5 MiB, and a character may become six bytes
 * there: Go writes "<" as an escape.
 */
const maxAllMessagesChars = 64_000;

/** Everything that a report is made of. */
export interface Facts {
  /** At most 1,000, in any order. */
  readonly images: Iterable<TrackedImage>;
  readonly permission: PullPermission;
  /** Failures are counted up to here in reports: one that goes on for ever is no news. */
  readonly errorThreshold: number;
  readonly runtime: RuntimeVersion;
  readonly agentVersion: string;
  readonly observedPlan: string;
}

/** Writes down what the agent knows. Equal facts make equal reports. */
export function reportStatus(facts: Facts): NodeReportStatus {
  const { runtime, agentVersion, observedPlan } = facts;
  const images = [...facts.images];
  const fairShare = Math.floor(maxAllMessagesChars / Math.max(images.length, 1));
  const messageChars = Math.min(maxMessageChars, fairShare);
  return {
    images: images
      .sort((a, b) => (a.reference < b.reference ? -1 : 1))
      .map((image) => reportedImage(image, facts, messageChars)),
    runtime: {
      name: shortened(runtime.name, maxNameChars),
      version: shortened(runtime.version, maxVersionChars),
    },
    agentVersion: shortened(agentVersion, maxVersionChars),
    observedPlan,
  };
}

function reportedImage(
  image: TrackedImage,
  { permission, errorThreshold }: Facts,
  messageChars: number,
): ReportedImage {
  const { reference, state, since, held, attempts, finding } = image;
  const obstacle: Finding | undefined =
    state === "pending" && !permission.isAllowed ? permission : undefined;
  const { reason, message } = finding ?? obstacle ?? {};
  return {
    reference,
    state,
    ...(held?.digest !== undefined && { digest: held.digest }),
    ...(held && { sizeBytes: held.sizeBytes }),
    ...(reason !== undefined && { reason }),
    ...(message !== undefined && { message: shortened(message, messageChars) }),
    ...(attempts > 0 && { attempts: Math.min(attempts, errorThreshold) }),
    since: formatTime(since),
  };
}

/** Cuts a text, never within a character. */
function shortened(text: string, maxChars: number): string {
  const wellFormed = text.toWellFormed();
  if (wellFormed.length <= maxChars) return wellFormed;
  return `${wellFormed.slice(0, maxChars - 1).replace(/[\uD800-\uDBFF]$/, "")}…`;
}
