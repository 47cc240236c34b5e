import { imagePolicies, images, mirrors } from "#api/v1/resources.ts";
import type { SpecProblem } from "#api/v1/spec-problems.ts";
import type { Routes } from "#http/router.ts";
import type { Resource } from "#kube/resource.ts";
import { MalformedObjectError } from "#kube/shape.ts";
import type { KubeObject } from "#kube/types.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { validateImagePolicy } from "./image-policy-validation.ts";
import { validateImage } from "./image-validation.ts";
import { admissionSeconds, type WebhookName } from "./metrics.ts";
import { validateMirror } from "./mirror-validation.ts";
import { reviewEntry } from "./review-entry.ts";
import { letIn, type AdmissionRequest, type Answer, type Cause } from "./review.ts";
import type { Verdict } from "./verdict.ts";

/** Of the five seconds for which the API server waits. */
const timeoutMs = 4_000;

export interface AdmissionDeps {
  log: Log;
  metrics: Registry;
}

/** Makes the routes of the webhooks for Coral's own kinds: `POST /validate/images` and so on. */
export function admissionRoutes({ log, metrics }: AdmissionDeps): Routes {
  const deps = { log, seconds: admissionSeconds(metrics), timeoutMs };
  const routeOf = <T extends KubeObject>(
    webhook: WebhookName,
    resource: Resource<T>,
    validate: (object: T, previous?: T) => Verdict,
  ): Routes => ({
    [`/validate/${webhook}`]: reviewEntry(webhook, reviewOf(resource, validate), deps),
  });
  return {
    ...routeOf("images", images, validateImage),
    ...routeOf("mirrors", mirrors, validateMirror),
    ...routeOf("imagepolicies", imagePolicies, validateImagePolicy),
  };
}

/** Decides about objects of a kind. What is not to be decided here, such as a deletion, passes. */
function reviewOf<T extends KubeObject>(
  resource: Resource<T>,
  validate: (object: T, previous?: T) => Verdict,
): (request: AdmissionRequest) => Answer {
  return ({ operation, subresource, kind, object, oldObject }) => {
    const isUpdate = operation === "UPDATE";
    const isOurs = kind === resource.kind && subresource === "";
    if (!isOurs || !(isUpdate || operation === "CREATE")) return letIn;
    const read = readable(resource, object);
    if (read.cause) return { causes: [read.cause], warnings: [] };
    // What was stored before its kind was as it is now may be unreadable, and excuses nothing.
    const previous = isUpdate ? readable(resource, oldObject).parsed : undefined;
    const { faults, warnings } = validate(read.parsed, previous);
    return { causes: faults.map(causeOf), warnings };
  };
}

/** Reads an object, or says what keeps it from being read. */
function readable<T extends KubeObject>(
  resource: Resource<T>,
  object: unknown,
): { parsed: T; cause?: undefined } | { parsed?: undefined; cause: Cause } {
  try {
    return { parsed: resource.parse(object) };
  } catch (error) {
    if (!(error instanceof MalformedObjectError)) throw error;
    const { field, message } = error;
    return { cause: { reason: "FieldValueInvalid", field, message } };
  }
}

/** Longer values are cut off: the field says where the rest of it is. */
const maxValueChars = 100;

/** Words a fault as the API server words its own. */
function causeOf({ kind, path, value, message }: SpecProblem): Cause {
  const shown = value.length > maxValueChars ? `${value.slice(0, maxValueChars)}…` : value;
  const [reason, label] =
    kind === "duplicate"
      ? (["FieldValueDuplicate", "Duplicate value"] as const)
      : (["FieldValueInvalid", "Invalid value"] as const);
  return { reason, field: path, message: `${label}: ${JSON.stringify(shown)}: ${message}` };
}
