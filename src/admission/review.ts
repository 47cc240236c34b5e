import { type JsonObject } from "#json/json.ts";
import { MalformedObjectError, requireObject, requireText } from "#kube/shape.ts";

/** What is asked of a webhook (admission.k8s.io/v1), as far as Coral reads it. */
export interface AdmissionRequest {
  readonly uid: string;
  readonly operation: string;
  /** `status` and the like; empty for the object itself. */
  readonly subresource: string;
  readonly group: string;
  readonly kind: string;
  /** Of the object; empty if its name is still to be made. */
  readonly name: string;
  /** Unchecked. Absent for deletions. */
  readonly object: unknown;
  /** Unchecked. Absent for creations. */
  readonly oldObject: unknown;
}

/** Why an object is kept out, by field. */
export interface Cause {
  readonly reason: "FieldValueInvalid" | "FieldValueDuplicate";
  readonly field: string;
  readonly message: string;
}

/** A webhook's answer. */
export interface Answer {
  /** None: the object is let in. */
  readonly causes: readonly Cause[];
  readonly warnings: readonly string[];
}

/** More would not be read, and the API server carries the answer to a person. */
const maxCauses = 100;

/**
 * Reads an AdmissionReview.
 *
 * @throws {MalformedObjectError} if it is something else.
 */
export function parseReview(body: unknown): AdmissionRequest {
  const review = requireObject(body, "AdmissionReview");
  if (review["apiVersion"] !== reviewVersion) {
    throw new MalformedObjectError("apiVersion", `"${reviewVersion}"`);
  }
  const request = requireObject(review["request"], "request");
  const kind = requireObject(request["kind"], "request.kind");
  return {
    uid: requireText(request["uid"], "request.uid"),
    operation: requireText(request["operation"], "request.operation"),
    subresource: textOf(request, "subResource"),
    group: textOf(kind, "group"),
    kind: requireText(kind["kind"], "request.kind.kind"),
    name: textOf(request, "name"),
    object: request["object"],
    oldObject: request["oldObject"],
  };
}

/** Writes the AdmissionReview that answers a request, in JSON. */
export function formatReview(
  { uid, group, kind, name }: AdmissionRequest,
  { causes, warnings }: Answer,
): string {
  const response = {
    uid,
    allowed: causes.length === 0,
    ...(warnings.length > 0 && { warnings }),
    ...(causes.length > 0 && { status: statusOf({ group, kind, name }, causes) }),
  };
  return JSON.stringify({ apiVersion: reviewVersion, kind: "AdmissionReview", response });
}

const reviewVersion = "admission.k8s.io/v1";

/** The Status of an API server that refuses an object itself: kubectl shows its causes, one a line. */
function statusOf(
  object: { group: string; kind: string; name: string },
  causes: readonly Cause[],
): object {
  const shown = causes.slice(0, maxCauses);
  const left = causes.length - shown.length;
  const lines = shown.map(({ field, message }) => `${field}: ${message}`);
  if (left > 0) lines.push(`and ${left} more`);
  return {
    status: "Failure",
    code: 422,
    reason: "Invalid",
    message: lines.length === 1 ? lines.join() : `[${lines.join(", ")}]`,
    details: { ...object, causes: shown },
  };
}

function textOf(object: JsonObject, field: string): string {
  const value = object[field];
  return typeof value === "string" ? value : "";
}
