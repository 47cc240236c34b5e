import { isJsonObject, textOf, type JsonObject } from "#json/json.ts";
import { MalformedObjectError, requireObject, requireText } from "#kube/shape.ts";
import type { JsonPatchOperation } from "./pods/json-patch.ts";

/** What is asked of a webhook (admission.k8s.io/v1), as far as Coral reads it. */
export interface AdmissionRequest {
  readonly uid: string;
  readonly operation: string;
  /** `status` and the like; empty for the object itself. */
  readonly subresource: string;
  readonly group: string;
  readonly kind: string;
  /** Empty for what has none. */
  readonly namespace: string;
  /** Of the object; empty if its name is still to be made. */
  readonly name: string;
  /** Who asks. */
  readonly user: string;
  readonly groups: readonly string[];
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
  /** Of fields that are not as they must be. None, and no refusals: the object is let in. */
  readonly causes: readonly Cause[];
  /** What else keeps it out, in whole sentences. */
  readonly refusals?: readonly string[];
  readonly warnings: readonly string[];
  /** What changes, if it is let in. */
  readonly patch?: readonly JsonPatchOperation[];
  /** For the API server's audit log, by key; the API server puts the webhook's name before it. */
  readonly audit?: Readonly<Record<string, string>>;
}

/** The answer that lets an object in as it is. */
export const letIn: Answer = { causes: [], warnings: [] };

/** More would not be read, and the API server carries the answer to a person. */
const maxCauses = 100;
const maxRefusals = 10;
const maxWarnings = 10;

/** The API server cuts a longer one off, once all of them together are long. */
const maxWarningChars = 256;

/** What is written of one object into a log that somebody keeps. */
const maxAuditEntries = 10;
const maxAuditChars = 1_024;

/** Whether an answer lets its object in. */
export function isAllowed({ causes, refusals = [] }: Answer): boolean {
  return causes.length + refusals.length === 0;
}

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
    subresource: textOf(request["subResource"]),
    group: textOf(kind["group"]),
    kind: requireText(kind["kind"], "request.kind.kind"),
    namespace: textOf(request["namespace"]),
    name: textOf(request["name"]),
    ...callerOf(request["userInfo"]),
    object: request["object"],
    oldObject: request["oldObject"],
  };
}

function callerOf(info: unknown): Pick<AdmissionRequest, "user" | "groups"> {
  const { username, groups }: JsonObject = isJsonObject(info) ? info : {};
  const texts: readonly unknown[] = Array.isArray(groups) ? groups : [];
  return { user: textOf(username), groups: texts.filter((group) => typeof group === "string") };
}

/** Writes the AdmissionReview that answers a request, in JSON. */
export function formatReview(request: AdmissionRequest, answer: Answer): string {
  const { causes, warnings, patch = [], audit = {} } = answer;
  const allowed = isAllowed(answer);
  const entries = Object.entries(audit).slice(0, maxAuditEntries);
  const response = {
    uid: request.uid,
    allowed,
    ...(warnings.length > 0 && { warnings: shownWarnings(warnings) }),
    ...(entries.length > 0 && {
      auditAnnotations: Object.fromEntries(
        entries.map(([key, value]) => [key, shortened(value, maxAuditChars)]),
      ),
    }),
    ...(allowed && patch.length > 0 && { patchType: "JSONPatch", patch: encoded(patch) }),
    ...(!allowed && {
      status:
        causes.length > 0
          ? invalidStatus(request, causes)
          : forbiddenStatus(request, answer.refusals),
    }),
  };
  return JSON.stringify({ apiVersion: reviewVersion, kind: "AdmissionReview", response });
}

const reviewVersion = "admission.k8s.io/v1";

function encoded(patch: readonly JsonPatchOperation[]): string {
  return Buffer.from(JSON.stringify(patch)).toString("base64");
}

function shownWarnings(warnings: readonly string[]): string[] {
  const left = warnings.length - maxWarnings;
  const shown = left > 0 ? warnings.slice(0, maxWarnings - 1) : warnings;
  return [...shown, ...(left > 0 ? [`and ${left + 1} more warnings`] : [])].map((warning) =>
    shortened(warning, maxWarningChars),
  );
}

function shortened(text: string, maxChars: number): string {
  return text.length > maxChars ? `${text.slice(0, maxChars - 1)}…` : text;
}

type Named = Pick<AdmissionRequest, "group" | "kind" | "name">;

/** The Status of an API server that refuses an object itself: kubectl shows its causes, one a line. */
function invalidStatus({ group, kind, name }: Named, causes: readonly Cause[]): object {
  const shown = causes.slice(0, maxCauses);
  const left = causes.length - shown.length;
  const lines = shown.map(({ field, message }) => `${field}: ${message}`);
  if (left > 0) lines.push(`and ${left} more`);
  return {
    status: "Failure",
    code: 422,
    reason: "Invalid",
    message: lines.length === 1 ? lines.join() : `[${lines.join(", ")}]`,
    details: { group, kind, name, causes: shown },
  };
}

function forbiddenStatus({ group, kind, name }: Named, refusals: readonly string[] = []): object {
  const shown = refusals.slice(0, maxRefusals);
  const left = refusals.length - shown.length;
  if (left > 0) shown.push(`and ${left} more`);
  return {
    status: "Failure",
    code: 403,
    reason: "Forbidden",
    message: shown.join("; "),
    details: { group, kind, name },
  };
}
