import { isJsonObject, type JsonObject } from "#json/json.ts";
import { coralAnnotations } from "./annotations.ts";
import { annotationOperations, pointerTo, type JsonPatchOperation } from "./json-patch.ts";

const workloadKinds = [
  "Deployment",
  "StatefulSet",
  "DaemonSet",
  "ReplicaSet",
  "ReplicationController",
  "Job",
];

function templatePath(kind: string): readonly string[] | undefined {
  if (kind === "CronJob") return ["spec", "jobTemplate", "spec", "template"];
  return workloadKinds.includes(kind) ? ["spec", "template"] : undefined;
}

/**
 * Copies Coral's annotations of a workload to its pod template, and changes nothing else of it.
 *
 * On creation, and when one of them changes: an update that leaves them alone must not start a rollout.
 * What another controller has made is left to that: a ReplicaSet that differed from its Deployment would be
 * replaced for ever. The template of a Job cannot be changed. An annotation that goes away is taken from
 * the template only if it has the same value there: another one somebody else has written.
 */
export function workloadPatch(
  kind: string,
  object: JsonObject,
  oldObject: JsonObject | undefined,
  operation: string,
): readonly JsonPatchOperation[] {
  const path = templatePath(kind);
  if (!path || isControlled(object) || (kind === "Job" && operation !== "CREATE")) return [];
  const template = path.reduce<unknown>(fieldOf, object);
  if (!isJsonObject(template)) return [];

  const wanted = annotationsOf(object);
  const before = operation === "CREATE" ? {} : annotationsOf(oldObject);
  const present = annotationsOf(template);
  const changed = coralAnnotations.filter((key) => wanted[key] !== before[key]);
  const set = changed.filter((key) => wanted[key] !== undefined && wanted[key] !== present[key]);
  const gone = changed.filter((key) => wanted[key] === undefined && before[key] === present[key]);
  const added = Object.fromEntries(set.map((key) => [key, wanted[key]]));
  const pointer = pointerTo("", ...path, "metadata");
  return [
    ...annotationOperations(pointer, template["metadata"], added),
    ...gone.map((key) => ({ op: "remove" as const, path: pointerTo(pointer, "annotations", key) })),
  ];
}

function isControlled(object: JsonObject): boolean {
  const owners = fieldOf(fieldOf(object, "metadata"), "ownerReferences");
  return Array.isArray(owners) && owners.some((owner) => fieldOf(owner, "controller") === true);
}

/** Coral's annotations of an object that are texts. */
function annotationsOf(object: unknown): Readonly<Record<string, string | undefined>> {
  const annotations = fieldOf(fieldOf(object, "metadata"), "annotations");
  return Object.fromEntries(
    coralAnnotations.flatMap((key) => {
      const value = fieldOf(annotations, key);
      return typeof value === "string" ? [[key, value]] : [];
    }),
  );
}

function fieldOf(value: unknown, field: string): unknown {
  return isJsonObject(value) ? value[field] : undefined;
}
