import type { Wishes } from "./annotations.ts";
import type { ImageFact, ImageSlot, Origin, ReadyPolicy } from "./model.ts";

/** Who wants something: the author of the pod, by its annotation, or a policy. */
export type Author = "annotation" | ReadyPolicy;

/** What somebody wants of an image of a pod, before it is looked at whether it can be. */
export interface Want {
  readonly slot: ImageSlot;
  /** What is known of the image; `undefined` if no Image asks for it. */
  readonly fact: ImageFact | undefined;
  /** Who decides about it; `undefined` if nobody does. */
  readonly decider: Author | undefined;
  readonly pullPolicy: { readonly to: "IfNotPresent" | "Never"; readonly by: Author } | undefined;
  readonly nodes: { readonly to: "Preferred" | "Required"; readonly by: Author } | undefined;
  /** The policy that keeps the pod out unless a node holds the image. */
  readonly guard: ReadyPolicy | undefined;
  readonly reasons: readonly string[];
}

/** A place of a pod, and the policy that is about it. */
export interface Subject {
  readonly slot: ImageSlot;
  readonly fact: ImageFact | undefined;
  readonly policy: ReadyPolicy | undefined;
}

/** What is wanted of an image as things are: a policy that only tells wants nothing. */
export function wantOf(subject: Subject, wishes: Wishes): Want {
  const { policy } = subject;
  if (policy && policy.enforcement !== "Enforce") {
    const want = wantOfAuthor(subject, wishes);
    const told = `${nameOf(policy)} is about it, and ${policy.enforcement === "Warn" ? "warns only" : "is only for the audit log"}`;
    return { ...want, reasons: [told, ...want.reasons] };
  }
  return supposedWantOf(subject, wishes);
}

/** What would be wanted of an image if the policy about it were enforced. */
export function supposedWantOf(subject: Subject, wishes: Wishes): Want {
  const { slot, policy } = subject;
  if (!policy) return wantOfAuthor(subject, wishes);
  const name = nameOf(policy);
  const isLeftOut = !wishes.selectsContainer(slot.name);
  if (policy.mode === "Off") {
    return { ...nothingOf(subject), decider: policy, reasons: [`${name} leaves it alone`] };
  }
  if (policy.mode === "OptIn" && !wishes.isAsking) {
    return reasoned(subject, `${name} is for pods with the annotation image.stvz.io/inject`);
  }
  if (policy.mode === "OptIn" && isLeftOut) return reasoned(subject, leftOut);
  const guard = policy.admit === "OnlyAvailable" ? policy : undefined;
  const decides = `${name} decides about it`;
  const want = { ...nothingOf(subject), decider: policy, guard };
  if (isLeftOut) return { ...want, reasons: [decides, leftOut] };
  return { ...want, ...wordsOf(wishes, policy), reasons: [decides] };
}

/** Names who wants something, to begin a sentence with. */
export function nameOf(author: Author): string {
  return author === "annotation" ? "the pod's annotation" : `policy "${author.name}"`;
}

/** Names who decides, for programs. */
export function originOf(author: Author): Origin {
  return author === "annotation" ? { kind: "annotation" } : { kind: "policy", name: author.name };
}

const leftOut = "the pod's annotations leave it out";

/** What the author alone wants, without a policy. */
function wantOfAuthor(subject: Subject, wishes: Wishes): Want {
  const { slot } = subject;
  if (!wishes.isAsking) return reasoned(subject, "nobody asks for a change");
  if (!wishes.selectsContainer(slot.name)) return reasoned(subject, leftOut);
  const want = { ...nothingOf(subject), ...wordsOf(wishes) };
  const asks = want.pullPolicy ?? want.nodes;
  return asks
    ? { ...want, decider: "annotation", reasons: ["the pod's annotation decides about it"] }
    : { ...want, reasons: ["the pod's annotation asks for nothing that is known"] };
}

/** The author's words go before what a policy has set. */
function wordsOf(wishes: Wishes, policy?: ReadyPolicy): Pick<Want, "pullPolicy" | "nodes"> {
  const pullPolicy = policy?.pullPolicy === "Unchanged" ? undefined : policy?.pullPolicy;
  const nodes = policy?.nodes === "None" ? undefined : policy?.nodes;
  return {
    pullPolicy: firstOf(wishes.pullPolicy, pullPolicy, policy),
    nodes: firstOf(wishes.nodes, nodes, policy),
  };
}

function firstOf<T>(
  word: T | undefined,
  setting: T | undefined,
  policy: ReadyPolicy | undefined,
): { to: T; by: Author } | undefined {
  if (word !== undefined) return { to: word, by: "annotation" };
  return setting !== undefined && policy ? { to: setting, by: policy } : undefined;
}

function reasoned(subject: Subject, reason: string): Want {
  return { ...nothingOf(subject), reasons: [reason] };
}

function nothingOf({ slot, fact }: Subject): Want {
  return {
    slot,
    fact,
    decider: undefined,
    pullPolicy: undefined,
    nodes: undefined,
    guard: undefined,
    reasons: [],
  };
}
