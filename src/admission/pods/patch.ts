import { isJsonObject } from "#json/json.ts";
import { affinityOperations } from "./affinity-patch.ts";
import { injectedAnnotation } from "./annotations.ts";
import { annotationOperations, pointerTo, type JsonPatchOperation } from "./json-patch.ts";
import type { PodDecision, PodRequest } from "./model.ts";
import { pullPolicyField } from "./slots.ts";

/**
 * Makes the patch that carries out a decision about a pod. It names single fields, so that nothing which
 * Coral does not know of is lost, and is empty for what it has been applied to.
 */
export function patchOf(
  { operation, pod }: PodRequest,
  { slots, nodes }: PodDecision,
): readonly JsonPatchOperation[] {
  const changes: JsonPatchOperation[] = slots.flatMap(({ slot, pullPolicy }) =>
    pullPolicy === undefined || pullPolicy === slot.pullPolicy
      ? []
      : [{ op: "add", path: pointerTo(slot.pointer, pullPolicyField(slot)), value: pullPolicy }],
  );
  if (operation === "CREATE") changes.push(...affinityOperations(pod, nodes));
  const { metadata } = pod;
  // Of an update for ephemeral containers, the API server drops everything else.
  if (changes.length === 0 || operation !== "CREATE" || !isJsonObject(metadata)) return changes;
  const annotations = isJsonObject(metadata["annotations"]) ? metadata["annotations"] : {};
  if (annotations[injectedAnnotation] === "true") return changes;
  return [
    ...changes,
    ...annotationOperations("/metadata", metadata, { [injectedAnnotation]: "true" }),
  ];
}
