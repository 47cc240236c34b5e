import type { Admit, PostRequest, Reply } from "#http/router.ts";
import type { TokenReviewer } from "./token-review.ts";

/**
 * Admits Coral's agents and nobody else: a stranger's body is not even read.
 *
 * @param route - answers an agent, of which the node is known.
 */
export function agentsOnly(
  reviewer: Pick<TokenReviewer, "identify">,
  route: (node: string, request: PostRequest) => Promise<Reply>,
): Admit {
  return async ({ headers: { authorization }, remoteAddress }) => {
    const caller = await reviewer.identify(authorization, remoteAddress);
    if ("status" in caller) return { status: caller.status, body: `${caller.message}\n` };
    return (request) => route(caller.node, request);
  };
}
