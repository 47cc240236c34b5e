import type { ImagePlan } from "#api/v1/image-plan.ts";
import { matchesSelector } from "#api/v1/selector.ts";
import { normalizeReference, parseReference } from "#oci/reference.ts";
import { loginsFor, type KeyringEntry, type Login } from "#remote/keyring.ts";

/** A login for one reference. */
export interface ReferenceLogin {
  /** As it was asked for. */
  readonly reference: string;
  /** The host that the login is for, and the only one. */
  readonly registry: string;
  readonly login: Login;
}

/** A plan that asks for something on the node, with what its Image's Secrets hold. */
export interface AskingPlan {
  readonly namespace: string;
  /** The references it asks for. */
  readonly references: ReadonlySet<string>;
  readonly entries: readonly KeyringEntry[];
}

/**
 * The plans whose Images may use logins and that ask for one of the references, normalised, on a
 * node with these labels.
 */
export function plansAsking(
  references: readonly string[],
  labels: Readonly<Record<string, string>>,
  plans: readonly ImagePlan[],
): ImagePlan[] {
  const wanted = new Set(references.map(normalizeReference));
  return plans.filter(
    ({ spec }) =>
      spec.pullSecretsRevision !== undefined &&
      spec.images.some(({ reference }) => wanted.has(reference)) &&
      matchesSelector(spec.selector, labels),
  );
}

/** Most logins of a namespace for one reference: an agent tries one after the other. */
const maxPerNamespace = 8;

/**
 * The logins for references, each from the Secrets of those Images that ask for that very reference
 * and for no other, and after them those that the operator's providers have for all; of several of a
 * namespace, the most fitting first. Namespaces take turns: wrong logins of one, however many and fitting,
 * put off the right one of another by no more than one each.
 *
 * @param provided - what the providers have, by reference as it was asked for.
 * @throws {InvalidReferenceError} if one is no reference.
 */
export function loginsOnNode(
  references: readonly string[],
  asking: readonly AskingPlan[],
  provided: ReadonlyMap<string, readonly Login[]> = new Map(),
): ReferenceLogin[] {
  return references.flatMap((reference) => {
    const normal = normalizeReference(reference);
    const repository = parseReference(reference);
    const plans = asking.filter((plan) => plan.references.has(normal));
    const byNamespace = [...Map.groupBy(plans, ({ namespace }) => namespace).values()].map(
      (its) => [
        // Images of a namespace mostly name the same Secrets: each of their logins once.
        ...loginsFor(repository, [...new Set(its.flatMap(({ entries }) => entries))]),
        ...(provided.get(reference) ?? []),
      ],
    );
    const { registry } = repository;
    return inTurns(byNamespace).map((login) => ({ reference, registry, login }));
  });
}

/** The first login of each list, then the second of each, and so on; each once. */
function inTurns(lists: readonly (readonly Login[])[]): Login[] {
  const logins = Array.from({ length: maxPerNamespace }, (_, turn) =>
    lists.flatMap((list) => list[turn] ?? []),
  ).flat();
  return [...new Map(logins.map((login) => [JSON.stringify(login), login])).values()];
}
