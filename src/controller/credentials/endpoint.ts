import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Image } from "#api/v1/image.ts";
import { isPlanOf } from "#controller/image/plan.ts";
import { secretNamesOf } from "#controller/image/reconciler.ts";
import type { PostEntry, PostRequest, Reply, Routes } from "#http/router.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import type { Lister } from "#kube/lister.ts";
import { isJsonObject } from "#json/json.ts";
import type { Node } from "#kube/types.ts";
import { InvalidReferenceError, normalizeReference, parseReference } from "#oci/reference.ts";
import type { LoginProviders } from "#secrets/repository-logins.ts";
import type { SecretWatch } from "#secrets/secret-watch.ts";
import type { Log } from "#telemetry/log.ts";
import { agentsOnly } from "./agents-only.ts";
import { loginsProvided } from "./login-providers.ts";
import { loginsOnNode, plansAsking, type AskingPlan } from "./logins.ts";
import type { TokenReviewer } from "./token-review.ts";

export interface CredentialsDeps {
  reviewer: Pick<TokenReviewer, "identify">;
  images: Lister<Image>;
  plans: Pick<Lister<ImagePlan>, "list">;
  nodes: Lister<Node>;
  secrets: Pick<SecretWatch, "entriesFor" | "revisionOf">;
  providers: LoginProviders;
  /** Longest wait for them: 3 s if not given, because an agent waits 5 s for its answer. */
  providersMs?: number;
  /** Whether the caches are filled. */
  hasSynced: () => boolean;
  log: Log;
}

/** No node pulls as many at once. */
const maxReferences = 1_000;

const maxBodyBytes = 1 << 20;
const timeoutMs = 8_000;

const notYet: Reply = { status: 503, body: "not everything is read yet, try again\n" };

/** What else of a text would fill an error. */
const maxQuotedChars = 100;

/**
 * Makes the route `POST /v1/credentials`: an agent names references, and gets the logins for those
 * that Images ask for on its node, from the Secrets that these Images name in their namespaces and
 * from the operator's providers.
 *
 * Neither a login nor a user's name is logged, only who asked and for how many.
 */
export function credentialsRoutes(deps: CredentialsDeps): Routes {
  const { reviewer, providers, providersMs = 3_000, log } = deps;

  async function post(node: string, { body, signal }: PostRequest): Promise<Reply> {
    const references = parseReferences(body);
    if (typeof references === "string") return { status: 400, body: `${references}\n` };
    const found = askingPlans(references, node, deps);
    if (!found) return notYet;
    const isAskedFor = (reference: string): boolean =>
      found.asking.some((plan) => plan.references.has(normalizeReference(reference)));
    const scope = { timeoutMs: providersMs, signal };
    const provided = await loginsProvided(references.filter(isAskedFor), providers, scope);
    const logins = loginsOnNode(references, found.asking, provided.logins);
    const known = new Set(logins.map(({ reference }) => reference));
    const isMissing = (reference: string): boolean =>
      !known.has(reference) && found.unread.has(normalizeReference(reference));
    // A provider that is late for one reference keeps no login for another one waiting.
    const isLate = (reference: string): boolean =>
      !known.has(reference) && provided.late.has(reference);
    const isAllLate = references.length > 0 && references.every(isLate);
    if (isAllLate || references.some(isMissing)) return notYet;
    const fields = { node, references: references.length, logins: logins.length };
    log.info("credentials asked for", fields);
    return { contentType: "application/json", body: JSON.stringify({ logins }) };
  }

  const entry: PostEntry = { admit: agentsOnly(reviewer, post), maxBodyBytes, timeoutMs };
  return { "/v1/credentials": entry };
}

/**
 * What Images ask for on the node, and references of which some Secret is still being read.
 *
 * @returns `undefined` if it cannot be told yet.
 */
function askingPlans(
  references: readonly string[],
  node: string,
  { hasSynced, plans, images, nodes, secrets }: CredentialsDeps,
): { asking: AskingPlan[]; unread: ReadonlySet<string> } | undefined {
  if (!hasSynced()) return undefined;
  const labels = nodes.get(node)?.metadata.labels;
  if (!labels) return { asking: [], unread: new Set() };
  const asking: AskingPlan[] = [];
  const unread: string[] = [];
  for (const plan of plansAsking(references, labels, plans.list())) {
    const image = images.get(formatKey(keyOf(plan)));
    // A plan that outlived its Image asks for nothing any more.
    if (!image || !isPlanOf(plan, image)) continue;
    const { namespace = "" } = image.metadata;
    const names = secretNamesOf(image);
    // One namespace's Secret that is being read keeps no login of another one waiting.
    if (secrets.revisionOf(namespace, names) === undefined) {
      unread.push(...plan.spec.images.map(({ reference }) => reference));
      continue;
    }
    asking.push({
      namespace,
      references: new Set(plan.spec.images.map(({ reference }) => reference)),
      entries: secrets.entriesFor(namespace, names),
    });
  }
  return { asking, unread: new Set(unread) };
}

/** @returns what is wrong, if it is. */
function parseReferences(body: unknown): readonly string[] | string {
  const list = isJsonObject(body) ? body["references"] : undefined;
  if (!Array.isArray(list)) return "references: must be a list of image references";
  if (list.length > maxReferences) {
    return `references: has ${list.length}, must have at most ${maxReferences}`;
  }
  const references = new Set<string>();
  for (const [index, item] of list.entries()) {
    const place = `references[${index}]`;
    if (typeof item !== "string") return `${place}: must be a text`;
    try {
      parseReference(item);
    } catch (error) {
      if (!(error instanceof InvalidReferenceError)) throw error;
      return `${place}: ${JSON.stringify(item.slice(0, maxQuotedChars))} ${error.reason}`;
    }
    references.add(item);
  }
  return [...references];
}
