import { imageLabel } from "#api/v1/labels.ts";
import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Image } from "#api/v1/image.ts";
import { InvalidReferenceError } from "#oci/reference.ts";

/** What is known of an image that some Image asks for. */
export interface KnownImage {
  readonly label: string;
  readonly isPrivate: boolean;
  readonly isOfNamespace: boolean;
  /** Where it is by the status of Images without node labels; 0 if there are none. */
  readonly unlabelled: NodeCounts;
}

/** How many nodes have an image, and how many are to. */
interface NodeCounts {
  readonly available: number;
  readonly planned: number;
}

/** A plan that asks for images. */
interface Asker {
  readonly key: string;
  readonly namespace: string;
  readonly usesLogins: boolean;
  readonly references: readonly string[];
}

interface Asked {
  readonly label: string;
  readonly askers: Set<Asker>;
}

/** Knows which images nodes are to have, and who asks for them. */
export class ImageIndex {
  readonly #askers = new Map<string, Asker>();
  /** By reference. */
  readonly #asked = new Map<string, Asked>();
  /** Of Images without node labels, by their key. */
  readonly #unlabelled = new Map<string, ReadonlyMap<string, NodeCounts>>();

  /** Takes note of a plan, or of what it is now. */
  setPlan(key: string, { metadata: { namespace = "" }, spec }: ImagePlan): void {
    this.deletePlan(key);
    const usesLogins = spec.pullSecretsRevision !== undefined;
    const references = spec.images.map(({ reference }) => reference);
    const asker = { key, namespace, usesLogins, references };
    this.#askers.set(key, asker);
    for (const reference of references) this.#entryOf(reference)?.askers.add(asker);
  }

  deletePlan(key: string): void {
    const asker = this.#askers.get(key);
    if (!asker) return;
    this.#askers.delete(key);
    for (const reference of asker.references) {
      const asked = this.#asked.get(reference);
      asked?.askers.delete(asker);
      if (asked?.askers.size === 0) this.#asked.delete(reference);
    }
  }

  /** Takes note of where an Image without node labels says its images are; others say it on nodes. */
  setImage(key: string, { spec, status }: Image): void {
    if (spec.nodeLabels !== "None") {
      this.#unlabelled.delete(key);
      return;
    }
    const counts = (status?.images ?? []).map(
      ({ reference, available, pending, error, unknown }) => {
        const planned = available + pending + error + unknown;
        return [reference, { available, planned }] as const;
      },
    );
    this.#unlabelled.set(key, new Map(counts));
  }

  deleteImage(key: string): void {
    this.#unlabelled.delete(key);
  }

  /**
   * Finds what is known of an image. One that needs a login is of a namespace only if an Image there has one:
   * to name what somebody else may pull is everybody's right.
   */
  get(reference: string, namespace: string): KnownImage | undefined {
    const asked = this.#asked.get(reference);
    if (!asked) return undefined;
    let isPrivate = false;
    let isNamed = false;
    let isNamedWithLogin = false;
    let [available, planned] = [0, 0];
    for (const asker of asked.askers) {
      isPrivate ||= asker.usesLogins;
      if (asker.namespace === namespace) {
        isNamed = true;
        isNamedWithLogin ||= asker.usesLogins;
      }
      const counts = this.#unlabelled.get(asker.key)?.get(reference);
      available = Math.max(available, counts?.available ?? 0);
      planned = Math.max(planned, counts?.planned ?? 0);
    }
    const isOfNamespace = isPrivate ? isNamedWithLogin : isNamed;
    return { label: asked.label, isPrivate, isOfNamespace, unlabelled: { available, planned } };
  }

  #entryOf(reference: string): Asked | undefined {
    const known = this.#asked.get(reference);
    if (known) return known;
    const label = labelOf(reference);
    if (label === undefined) return undefined;
    const asked = { label, askers: new Set<Asker>() };
    this.#asked.set(reference, asked);
    return asked;
  }
}

/** @returns `undefined` if it is no image name, which no plan of Coral's has. */
function labelOf(reference: string): string | undefined {
  try {
    return imageLabel(reference);
  } catch (error) {
    if (error instanceof InvalidReferenceError) return undefined;
    throw error;
  }
}
