import type { PostEntry, PostRequest, Reply } from "#http/router.ts";
import { MalformedObjectError } from "#kube/shape.ts";
import type { Log } from "#telemetry/log.ts";
import type { AdmissionSeconds, WebhookName } from "./metrics.ts";
import {
  formatReview,
  isAllowed,
  parseReview,
  type AdmissionRequest,
  type Answer,
} from "./review.ts";

/**
 * An API server takes requests of 3 MiB; a review may hold the object, the one before, and a frame.
 * The server that serves webhooks needs as much.
 */
export const maxReviewBytes = 7 << 20;

export interface ReviewDeps {
  log: Log;
  seconds: AdmissionSeconds;
  /** Within the webhook's `timeoutSeconds`, for an answer that comes later is none. */
  timeoutMs: number;
}

/**
 * Makes the route of a webhook. Of an object, its kind, namespace and name are logged, and nothing else.
 *
 * @param review - decides from memory, at once: so no more than one object is being decided about, and
 *   what waits for it is bounded by the bytes that the router lets in.
 */
export function reviewEntry(
  webhook: WebhookName,
  review: (request: AdmissionRequest) => Answer,
  { log, seconds, timeoutMs }: ReviewDeps,
): PostEntry {
  async function post({ body }: PostRequest): Promise<Reply> {
    const startMs = performance.now();
    let request: AdmissionRequest;
    try {
      request = parseReview(body);
    } catch (error) {
      if (!(error instanceof MalformedObjectError)) throw error;
      return { status: 400, body: `${error.message}\n` };
    }
    const answer = review(request);
    const isChanged = answer.patch !== undefined && answer.patch.length > 0;
    const result = isAllowed(answer) ? (isChanged ? "changed" : "allowed") : "refused";
    seconds.observe({ webhook, result }, (performance.now() - startMs) / 1_000);
    const { kind, namespace, name } = request;
    log.debug("object reviewed", { webhook, kind, namespace, name, result });
    return { contentType: "application/json", body: formatReview(request, answer) };
  }
  return { post, maxBodyBytes: maxReviewBytes, timeoutMs };
}
