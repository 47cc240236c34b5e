import type { ImagePlan } from "#api/v1/image-plan.ts";
import { agentsOnly } from "#controller/credentials/agents-only.ts";
import type { TokenReviewer } from "#controller/credentials/token-review.ts";
import type { PostEntry, PostRequest, Reply, Routes } from "#http/router.ts";
import type { Lister } from "#kube/lister.ts";
import { isJsonObject } from "#json/json.ts";
import type { Node } from "#kube/types.ts";
import type { Log } from "#telemetry/log.ts";
import { forwardedHeader, type LeaderLink } from "./leader-link.ts";
import { slotLimit } from "./limit.ts";
import type { SlotRequest } from "./slot-table.ts";
import type { Slots } from "./slots.ts";

export interface SlotsDeps {
  reviewer: Pick<TokenReviewer, "identify">;
  slots: Slots;
  leader: Pick<LeaderLink, "post">;
  plans: Lister<ImagePlan>;
  nodes: Lister<Node>;
  /** How many nodes an Image is for, by its key; `undefined` if they are not counted yet. */
  totalNodesOf: (key: string) => number | undefined;
  log: Log;
}

const path = "/v1/slots";
const maxBodyBytes = 256 << 10;
const timeoutMs = 8_000;

/** The Images that may bound one pull, and those that may bound all pulls of a node. */
const maxWant = 64;
const maxHold = 1_000;

/** A namespace and a name. */
const maxKeyChars = 63 + 1 + 253;

/**
 * Makes the route `POST /v1/slots`: an agent says which slots it holds, and may ask for more. The
 * leader answers; every other replica has it answer, since agents reach any of them.
 */
export function slotsRoutes(deps: SlotsDeps): Routes {
  const { reviewer, slots, plans, nodes, totalNodesOf } = deps;

  async function post(node: string, request: PostRequest): Promise<Reply> {
    const { table } = slots;
    if (!table) return passOn(request);
    const asked = parseRequest(request.body, node);
    if (typeof asked === "string") return { status: 400, body: `${asked}\n` };
    const labels = nodes.get(node)?.metadata.labels;
    const limitOf = (key: string): number | undefined =>
      slotLimit({ plan: plans.get(key), labels, totalNodes: totalNodesOf(key) });
    const answer = table.ask(asked, limitOf, slots.nowMs());
    return answer ? json(200, answer) : { status: 409, body: "sequence: must have grown\n" };
  }

  async function passOn({ body, headers, signal }: PostRequest): Promise<Reply> {
    const { leader, log } = deps;
    const { authorization = "" } = headers;
    if (headers[forwardedHeader] !== undefined) return noLeader;
    try {
      const answer = await leader.post(path, { body, authorization, signal });
      // What is no JSON is a refusal, in words for the agent's log.
      if (answer?.body !== undefined) return json(answer.status, answer.body);
      return answer ? { status: answer.status, body: "refused by the leader\n" } : noLeader;
    } catch (error) {
      log.debug("the leader does not answer", { error });
      return noLeader;
    }
  }

  const entry: PostEntry = { admit: agentsOnly(reviewer, post), maxBodyBytes, timeoutMs };
  return { [path]: entry };
}

const noLeader: Reply = { status: 503, body: "nobody leads now, try again\n" };

function json(status: number, body: unknown): Reply {
  return { status, contentType: "application/json", body: JSON.stringify(body) };
}

/** @returns what is wrong, if it is. */
function parseRequest(body: unknown, node: string): SlotRequest | string {
  if (!isJsonObject(body)) return "must be an object";
  const want = parseKeys(body["want"], "want", maxWant);
  const hold = parseKeys(body["hold"], "hold", maxHold);
  const { sequence } = body;
  if (typeof want === "string") return want;
  if (typeof hold === "string") return hold;
  if (typeof sequence !== "number" || !Number.isSafeInteger(sequence)) {
    return "sequence: must be a whole number";
  }
  return { node, want, hold, sequence };
}

function parseKeys(value: unknown, field: string, max: number): readonly string[] | string {
  if (!Array.isArray(value)) return `${field}: must be a list of namespace/name`;
  if (value.length > max) return `${field}: has ${value.length}, must have at most ${max}`;
  const keys: string[] = [];
  for (const [index, key] of value.entries()) {
    if (typeof key !== "string" || key.length > maxKeyChars) {
      return `${field}[${index}]: must be a text of at most ${maxKeyChars} characters`;
    }
    keys.push(key);
  }
  return keys;
}
