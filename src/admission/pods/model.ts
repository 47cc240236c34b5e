import type { JsonObject } from "#json/json.ts";

/** Where a pod names an image. */
export type SlotKind = "initContainer" | "container" | "ephemeralContainer" | "imageVolume";

/** A place of a pod that names an image. */
export interface ImageSlot {
  readonly kind: SlotKind;
  /** Of the container or volume. */
  readonly name: string;
  /** JSON pointer to what has the fields: `/spec/containers/0`, `/spec/volumes/2/image`. */
  readonly pointer: string;
  /** As the pod has it. Empty if it has none, as an image volume may until its template is filled in. */
  readonly image: string;
  /** Its full name; `undefined` if it is no image name. */
  readonly reference: string | undefined;
  readonly pullPolicy: string | undefined;
}

/** What is asked about a pod, as far as decisions read it. */
export interface PodRequest {
  readonly operation: "CREATE" | "UPDATE";
  /** `ephemeralcontainers`, or empty for the pod. */
  readonly subresource: string;
  readonly namespace: string;
  readonly user: string;
  readonly groups: readonly string[];
  /** From outside: nothing in it has been checked. */
  readonly pod: JsonObject;
  /** Before an update. */
  readonly oldPod: JsonObject | undefined;
}

/** A node, as far as it matters to whom it takes. */
export interface NodeFact {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly {
    readonly key: string;
    readonly value?: string;
    readonly effect: string;
  }[];
}

/** What Coral knows of an image that somebody asked it to keep on nodes. */
export interface ImageFact {
  /** The node label that says where it is. */
  readonly label: string;
  /** Ready nodes, taking pods, that hold it. */
  readonly availableNodes: number;
  /** Nodes that are to hold it. */
  readonly plannedNodes: number;
  /** Whether some Image used a login to get it. */
  readonly isPrivate: boolean;
  /** Whether an Image of the pod's namespace asks for it: then the namespace has what it takes to get it. */
  readonly isOfNamespace: boolean;
}

/** A policy that has been read, and its globs made ready. */
export interface ReadyPolicy {
  readonly name: string;
  readonly mode: "Off" | "OptIn" | "Force";
  readonly pullPolicy: "Unchanged" | "IfNotPresent" | "Never";
  readonly nodes: "None" | "Preferred" | "Required";
  /** A number of nodes, or a share of those that fit, from 0 to 1. */
  readonly minNodes: { readonly count: number } | { readonly share: number };
  readonly admit: "Any" | "OnlyAvailable";
  readonly enforcement: "Enforce" | "Warn" | "Audit";
  /** Whether it is for pods of a namespace with these labels, made by this user. */
  selectsPod(
    request: Pick<PodRequest, "namespace" | "user" | "groups">,
    labels: Readonly<Record<string, string>>,
  ): boolean;
  selectsImage(reference: string): boolean;
  selectsContainer(name: string): boolean;
}

/** All that decisions about pods are made from. Every method answers from memory. */
export interface PodFacts {
  /** Whether all of it is known. Until then nothing is decided. */
  readonly isFilled: boolean;
  /** Whether the API server has the plugin AlwaysPullImages, which refuses other pull policies. */
  readonly alwaysPulls: boolean;
  /** Where Coral itself runs: its pods are left alone. */
  readonly ownNamespace: string;
  /** In the order in which they are asked: the first that selects an image decides about it. */
  readonly policies: readonly ReadyPolicy[];
  namespaceLabels(namespace: string): Readonly<Record<string, string>> | undefined;
  image(reference: string, namespace: string): ImageFact | undefined;
  /** Ready nodes, taking pods, that hold all images with these labels, and whose facts `fits` accepts; no more than `limit` are counted. */
  countHolding(labels: readonly string[], fits: (node: NodeFact) => boolean, limit: number): number;
  /** Ready nodes, taking pods, whose facts `fits` accepts; no more than `limit` are counted. */
  countFitting(fits: (node: NodeFact) => boolean, limit: number): number;
}

/** Who wants something done: the annotation, or a policy by its name. */
export type Origin =
  | { readonly kind: "annotation" }
  | { readonly kind: "policy"; readonly name: string };

/** What is decided about one image of a pod, and why. */
export interface SlotDecision {
  readonly slot: ImageSlot;
  /** Who decides about it; `undefined` if nobody does. */
  readonly origin: Origin | undefined;
  /** Set if it is to be changed. */
  readonly pullPolicy: "IfNotPresent" | "Never" | undefined;
  /** Whether the pod is to go where this image is. */
  readonly nodes: "None" | "Preferred" | "Required";
  /** The label of its nodes; there if `nodes` is not `None`. */
  readonly label: string | undefined;
  /** Why it keeps the pod out, for people: what is missing, where it would come from, what to do. */
  readonly refusal: string | undefined;
  /** In the order of the decision, for people: each says what was found or done, and by whom. */
  readonly reasons: readonly string[];
}

/** What is decided about a pod. */
export interface PodDecision {
  readonly slots: readonly SlotDecision[];
  /** What becomes of where the pod goes; labels of nodes that must, or had better, be `available`. */
  readonly nodes: { readonly required: readonly string[]; readonly preferred: readonly string[] };
  /** Why pods are not let in, of policies that enforce. */
  readonly refusals: readonly string[];
  /** For who made the pod. */
  readonly warnings: readonly string[];
  /** For the API server's audit log, by key without a prefix. */
  readonly audit: Readonly<Record<string, string>>;
  /** What concerns the whole pod, for people: exemptions, caches that fill. */
  readonly reasons: readonly string[];
}
