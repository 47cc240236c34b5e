import { isJsonObject, type JsonObject } from "#json/json.ts";
import { parseWishes, type Wishes } from "./annotations.ts";
import type {
  ImageFact,
  ImageSlot,
  PodDecision,
  PodFacts,
  PodRequest,
  ReadyPolicy,
} from "./model.ts";
import { resolve } from "./resolve.ts";
import { heldAs, slotsOf } from "./slots.ts";
import { isOnlyTold, toldOf } from "./told.ts";
import { nameOf, supposedWantOf, wantOf, type Subject } from "./want.ts";

/** Namespaces of the system, whose pods are left alone whatever anybody asks. */
export const systemNamespaces: ReadonlySet<string> = new Set([
  "kube-system",
  "kube-public",
  "kube-node-lease",
]);

/** A hundred is many. Each is looked at, and what is found is told. */
const maxSlots = 1_000;

/** As much as an image's name can have. */
const maxImageChars = 520;

/**
 * Decides what becomes of a pod that is made, of an image of it that is changed, or of a container that is
 * added to it.
 *
 * Idempotent: carried out, the same decision changes nothing more, as the API server asks again when
 * another webhook has changed the pod since. It never throws: what is malformed is left to the API server.
 */
export function decidePod(request: PodRequest, facts: PodFacts): PodDecision {
  const exemption = exemptionOf(request, facts);
  if (exemption !== undefined) return { ...nothing, reasons: [exemption] };
  if (!facts.isFilled) {
    const reason = "Coral is starting and does not know all yet, so the pod is let in as it is";
    return { ...nothing, reasons: [reason], warnings: [reason] };
  }
  const wishes = parseWishes(annotationsOf(request.pod));
  const labels = facts.namespaceLabels(request.namespace);
  const policies = labels
    ? facts.policies.filter((policy) => policy.selectsPod(request, labels))
    : [];
  const unknown = labels
    ? []
    : [`namespace "${request.namespace}" is not known to Coral yet, so no policy is applied`];
  const slots = slotsOf(request);
  if (slots.length > maxSlots) return tooMany(slots.length, policies, wishes);

  const decision = decide(request, subjectsOf(slots, request, policies, facts), wishes, facts);
  const isNew = request.operation === "CREATE";
  return {
    ...decision,
    warnings: [...(isNew ? [...unknown, ...wishes.warnings] : []), ...decision.warnings],
    reasons: [...unknown, ...decision.reasons],
  };
}

const nothing: PodDecision = {
  slots: [],
  nodes: { required: [], preferred: [] },
  refusals: [],
  warnings: [],
  audit: {},
  reasons: [],
};

/** Why a request is none of Coral's business. */
function exemptionOf(
  { namespace, operation, subresource, pod }: PodRequest,
  { ownNamespace }: PodFacts,
): string | undefined {
  if (systemNamespaces.has(namespace) || namespace === ownNamespace) {
    return `namespace "${namespace}" is left alone`;
  }
  if (subresource !== "" && !(subresource === "ephemeralcontainers" && operation === "UPDATE")) {
    return `requests for pods/${subresource} are left alone`;
  }
  const mirrored = annotationsOf(pod)["kubernetes.io/config.mirror"];
  return mirrored === undefined
    ? undefined
    : "it mirrors a static pod, which its kubelet runs as it is";
}

function annotationsOf({ metadata }: JsonObject): JsonObject {
  const annotations = isJsonObject(metadata) ? metadata["annotations"] : undefined;
  return isJsonObject(annotations) ? annotations : {};
}

/** Finds for each place of a pod what is known of its image, and the policy that is about it. */
function subjectsOf(
  slots: readonly ImageSlot[],
  { namespace }: PodRequest,
  policies: readonly ReadyPolicy[],
  facts: PodFacts,
): Subject[] {
  const images = new Map<string, { fact: ImageFact | undefined; policies: ReadyPolicy[] }>();

  function lookUp(reference: string | undefined, name: string) {
    const known = images.get(name) ?? {
      fact: reference === undefined ? undefined : facts.image(heldAs(reference), namespace),
      policies: policies.filter((policy) => policy.selectsImage(name)),
    };
    images.set(name, known);
    return known;
  }

  return slots.map((slot) => {
    // No node holds what is no image name, but a policy may be about it.
    const name = slot.reference ?? slot.image.slice(0, maxImageChars);
    const { fact, policies } = lookUp(slot.reference, name);
    return { slot, fact, policy: policies.find((policy) => policy.selectsContainer(slot.name)) };
  });
}

function decide(
  request: PodRequest,
  subjects: readonly Subject[],
  wishes: Wishes,
  facts: PodFacts,
): PodDecision {
  const wants = subjects.map((subject) => wantOf(subject, wishes));
  const decision: PodDecision = { ...nothing, ...resolve(request, wants, facts) };
  if (!subjects.some(isOnlyTold)) return decision;
  const supposed = subjects.map((subject) => supposedWantOf(subject, wishes));
  const told = toldOf(subjects, decision.slots, resolve(request, supposed, facts).slots);
  return { ...decision, audit: told.audit, warnings: [...decision.warnings, ...told.warnings] };
}

function tooMany(
  count: number,
  policies: readonly ReadyPolicy[],
  { isAsking }: Wishes,
): PodDecision {
  const reason = `the pod names ${count} images, more than the ${maxSlots} that Coral looks at, and is left as it is`;
  const guards = policies.filter(
    ({ mode, admit, enforcement }) =>
      admit === "OnlyAvailable" &&
      enforcement === "Enforce" &&
      (mode === "Force" || (mode === "OptIn" && isAsking)),
  );
  return {
    ...nothing,
    reasons: [reason],
    warnings: [reason],
    refusals: guards.map(
      (policy) => `${nameOf(policy)} lets in no pod of more than ${maxSlots} images`,
    ),
  };
}
