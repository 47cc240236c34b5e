import { fitsOf } from "#admission/pods/fits.ts";
import { decidePod } from "#admission/pods/decide.ts";
import type { JsonPatchOperation } from "#admission/pods/json-patch.ts";
import type { ImageSlot, PodFacts, PodRequest, SlotDecision } from "#admission/pods/model.ts";
import { patchOf } from "#admission/pods/patch.ts";
import { pullPolicyField, slotsOf } from "#admission/pods/slots.ts";
import { isJsonObject, type JsonObject } from "#json/json.ts";
import { whereIs, type ClusterView, type Whereabouts } from "./whereabouts.ts";

/** Who makes a pod, as policies look at it. */
export interface Creator {
  readonly user: string;
  readonly groups: readonly string[];
}

/** A pod to explain. */
export interface GivenPod {
  readonly name: string;
  readonly namespace: string;
  readonly object: JsonObject;
  readonly creator: Creator;
}

/** What one policy has to say about an image. */
export interface PolicyWord {
  readonly policy: string;
  readonly word: string;
}

/** What is done with one image of a pod, and why. */
export interface ImageExplanation {
  readonly kind: ImageSlot["kind"];
  /** Of the container or volume. */
  readonly name: string;
  readonly image: string;
  readonly reference: string | undefined;
  readonly where: Whereabouts | undefined;
  readonly decidedBy: SlotDecision["origin"];
  readonly changes: readonly string[];
  readonly refusal: string | undefined;
  readonly reasons: readonly string[];
  /** In the order in which they are asked. */
  readonly policies: readonly PolicyWord[];
}

/** What is done with a pod, and why. */
export interface PodExplanation {
  readonly name: string;
  readonly namespace: string;
  readonly createdBy: Creator;
  readonly verdict: "unchanged" | "changed" | "refused";
  readonly refusals: readonly string[];
  readonly warnings: readonly string[];
  readonly audit: Readonly<Record<string, string>>;
  readonly reasons: readonly string[];
  readonly images: readonly ImageExplanation[];
  /** By the requests in which the API server would ask. */
  readonly patches: readonly (readonly JsonPatchOperation[])[];
}

/**
 * Explains what admission would do with a pod, were it made now: by the code that decides. Containers that
 * were added to it for debugging are explained as when they are added.
 */
export function explainPod(pod: GivenPod, view: ClusterView): PodExplanation {
  const { facts } = view;
  const asked = requestsOf(pod).map((request) => {
    const decision = decidePod(request, facts);
    return { request, decision, patch: patchOf(request, decision) };
  });
  const decisions = asked.map(({ decision }) => decision);
  const refusals = distinct(decisions.flatMap((each) => each.refusals));
  const isChanged = asked.some(({ patch }) => patch.length > 0);
  return {
    name: pod.name,
    namespace: pod.namespace,
    createdBy: pod.creator,
    verdict: refusals.length > 0 ? "refused" : isChanged ? "changed" : "unchanged",
    refusals,
    warnings: distinct(decisions.flatMap((each) => each.warnings)),
    audit: Object.fromEntries(decisions.flatMap(({ audit }) => Object.entries(audit))),
    reasons: distinct(decisions.flatMap((each) => each.reasons)),
    images: asked.flatMap(({ request, decision, patch }) =>
      slotsOf(request).map((slot) => {
        const decided = decision.slots.find(({ slot: { pointer } }) => pointer === slot.pointer);
        const changes = decided ? changesOf(decided, patch) : [];
        return { ...explainSlot(slot, decided, { request, view }), changes };
      }),
    ),
    patches: asked.map(({ patch }) => patch),
  };
}

function distinct(texts: readonly string[]): string[] {
  return [...new Set(texts)];
}

/**
 * The requests by which a pod comes to be what it is. Of one that has run, the scheduler said where, which
 * nobody knew when it was made.
 */
function requestsOf({ namespace, object, creator }: GivenPod): PodRequest[] {
  const { status, ...pod } = object;
  const { ephemeralContainers, nodeName, ...spec } = isJsonObject(pod["spec"]) ? pod["spec"] : {};
  const wasScheduled = isJsonObject(status) && status["phase"] !== undefined;
  const placed = !wasScheduled && nodeName !== undefined ? { ...spec, nodeName } : spec;
  const made = { ...pod, spec: placed };
  const common = { ...creator, namespace };
  return [
    { ...common, operation: "CREATE", subresource: "", pod: made, oldPod: undefined },
    ...(Array.isArray(ephemeralContainers) && ephemeralContainers.length > 0
      ? [
          {
            ...common,
            operation: "UPDATE" as const,
            subresource: "ephemeralcontainers",
            pod: {
              ...pod,
              spec: { ...spec, ...(nodeName !== undefined && { nodeName }), ephemeralContainers },
            },
            oldPod: made,
          },
        ]
      : []),
  ];
}

/** @param decision - none if the pod as a whole is left alone. */
function explainSlot(
  slot: ImageSlot,
  decision: SlotDecision | undefined,
  { request, view }: { request: PodRequest; view: ClusterView },
): Omit<ImageExplanation, "changes"> {
  const { kind, name, image, reference } = slot;
  const { namespace, pod } = request;
  const fits = fitsOf(pod);
  return {
    kind,
    name,
    image,
    reference,
    where: reference === undefined ? undefined : whereIs(reference, view, { namespace, fits }),
    decidedBy: decision?.origin,
    refusal: decision?.refusal,
    reasons: decision?.reasons ?? [],
    policies: decision ? policyWords(slot, request, view.facts) : [],
  };
}

/** What is decided may be so already: the patch says what is new. */
function changesOf(
  { slot, pullPolicy, nodes }: SlotDecision,
  patch: readonly JsonPatchOperation[],
): string[] {
  const before = slot.pullPolicy === undefined ? "" : `${slot.pullPolicy} becomes `;
  const isPlaced = patch.some(({ path }) => path.startsWith("/spec/affinity"));
  return [
    ...(pullPolicy === undefined ? [] : [`${pullPolicyField(slot)}: ${before}${pullPolicy}`]),
    ...(isPlaced && nodes === "Required" ? ["the pod goes to nodes that hold the image"] : []),
    ...(isPlaced && nodes === "Preferred"
      ? ["the pod had better go to nodes that hold the image"]
      : []),
  ];
}

/** What each policy has to do with an image. The first that selects it is about it, and no later one. */
function policyWords(
  { name, image, reference = image }: ImageSlot,
  request: PodRequest,
  facts: PodFacts,
): PolicyWord[] {
  const labels = facts.namespaceLabels(request.namespace) ?? {};
  let first: string | undefined;
  return facts.policies.map((policy) => {
    const word = (): string => {
      if (!policy.selectsPod(request, labels))
        return "not for this namespace, or who makes the pod";
      if (!policy.selectsImage(reference)) return "not for this image";
      if (!policy.selectsContainer(name)) return "not for this container";
      if (first !== undefined) return `comes after "${first}"`;
      first = policy.name;
      return `is about it: ${settingsOf(policy)}`;
    };
    return { policy: policy.name, word: word() };
  });
}

function settingsOf(policy: PodFacts["policies"][number]): string {
  const { mode, pullPolicy, nodes, admit, enforcement } = policy;
  return [
    `mode ${mode}`,
    ...(pullPolicy === "Unchanged" ? [] : [`pullPolicy ${pullPolicy}`]),
    ...(nodes === "None" ? [] : [`nodes ${nodes}`]),
    ...(admit === "Any" ? [] : [`admit ${admit}`]),
    ...(enforcement === "Enforce" ? [] : [`enforcement ${enforcement}`]),
  ].join(", ");
}
