import type { Image } from "#api/v1/image.ts";
import { images } from "#api/v1/resources.ts";
import type { PostEntry, PostRequest, Reply, Routes } from "#http/router.ts";
import { MalformedObjectError } from "#kube/shape.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { validateImage, type Fault } from "./image-validation.ts";
import { admissionSeconds } from "./metrics.ts";
import {
  formatReview,
  parseReview,
  type AdmissionRequest,
  type Answer,
  type Cause,
} from "./review.ts";

/**
 * An API server takes requests of 3 MiB; a review may hold the object, the one before, and a frame.
 * The server that these routes are served by needs as much.
 */
export const maxReviewBytes = 7 << 20;

/** Within the webhook's `timeoutSeconds`, for an answer that comes later is none. */
const timeoutMs = 4_000;

export interface AdmissionDeps {
  log: Log;
  metrics: Registry;
}

/** Makes the webhooks' routes: `POST /validate/images`. */
export function admissionRoutes({ log, metrics }: AdmissionDeps): Routes {
  const seconds = admissionSeconds(metrics);

  async function post({ body }: PostRequest): Promise<Reply> {
    const startMs = performance.now();
    let request: AdmissionRequest;
    try {
      request = parseReview(body);
    } catch (error) {
      if (!(error instanceof MalformedObjectError)) throw error;
      return { status: 400, body: `${error.message}\n` };
    }
    const answer = reviewImage(request);
    const result = answer.causes.length === 0 ? "allowed" : "refused";
    seconds.observe({ webhook: "images", result }, (performance.now() - startMs) / 1_000);
    log.debug("image reviewed", { name: request.name, result, faults: answer.causes.length });
    return { contentType: "application/json", body: formatReview(request, answer) };
  }

  const entry: PostEntry = { post, maxBodyBytes: maxReviewBytes, timeoutMs };
  return { "/validate/images": entry };
}

const letIn: Answer = { causes: [], warnings: [] };

/** Decides about an Image. What is not to be decided here, such as a deletion, passes. */
export function reviewImage(request: AdmissionRequest): Answer {
  const { operation, subresource, kind, object, oldObject } = request;
  const isUpdate = operation === "UPDATE";
  const isOurs = kind === images.kind && subresource === "";
  if (!isOurs || !(isUpdate || operation === "CREATE")) return letIn;
  let image: Image;
  try {
    image = images.parse(object);
  } catch (error) {
    if (!(error instanceof MalformedObjectError)) throw error;
    const { field, message } = error;
    return { causes: [{ reason: "FieldValueInvalid", field, message }], warnings: [] };
  }
  const { faults, warnings } = validateImage(image, isUpdate ? readable(oldObject) : undefined);
  return { causes: faults.map(causeOf), warnings };
}

/** What was stored before its kind was as it is now may be unreadable, and excuses nothing. */
function readable(object: unknown): Image | undefined {
  try {
    return images.parse(object);
  } catch (error) {
    if (!(error instanceof MalformedObjectError)) throw error;
    return undefined;
  }
}

/** Longer values are cut off: the field says where the rest of it is. */
const maxValueChars = 100;

/** Words a fault as the API server words its own. */
function causeOf({ kind, path, value, message }: Fault): Cause {
  const shown = value.length > maxValueChars ? `${value.slice(0, maxValueChars)}…` : value;
  const [reason, label] =
    kind === "duplicate"
      ? (["FieldValueDuplicate", "Duplicate value"] as const)
      : (["FieldValueInvalid", "Invalid value"] as const);
  return { reason, field: path, message: `${label}: ${JSON.stringify(shown)}: ${message}` };
}
