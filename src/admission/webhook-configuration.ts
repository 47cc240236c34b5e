import { isDeepStrictEqual } from "node:util";

import type { LabelSelector, WebhookConfiguration } from "#kube/types.ts";

/** An RFC 6902 operation. */
export interface Operation {
  readonly op: "test" | "add";
  readonly path: string;
  readonly value: string | LabelSelector;
}

/** What Coral says of a webhook. What it does not say is left as it is. */
export interface WebhookWish {
  /** PEM in base64. */
  readonly caBundle?: string;
  /** Whether the API server is to ask it at all. */
  readonly isAsked?: boolean;
}

/** What every object has. */
const every: LabelSelector = {};

/** What no object has, which costs the API server less than any other way not to ask a webhook. */
const none: LabelSelector = {
  matchExpressions: [
    { key: "image.stvz.io/asked", operator: "Exists" },
    { key: "image.stvz.io/asked", operator: "DoesNotExist" },
  ],
};

/**
 * Makes the patch that gives every webhook what is wished of it and changes nothing else; empty if
 * they have it. It fails as a whole if the webhooks were reordered meanwhile.
 */
export function configurationPatch(
  { webhooks = [] }: WebhookConfiguration,
  wishOf: (webhook: string) => WebhookWish,
): Operation[] {
  return webhooks.flatMap(({ name, clientConfig, objectSelector = every }, index) => {
    const { caBundle, isAsked } = wishOf(name);
    const selector = isAsked === undefined ? objectSelector : isAsked ? every : none;
    const path = `/webhooks/${index}`;
    const changes: Operation[] = [];
    if (caBundle !== undefined && caBundle !== clientConfig.caBundle) {
      changes.push({ op: "add", path: `${path}/clientConfig/caBundle`, value: caBundle });
    }
    if (!isDeepStrictEqual(selector, objectSelector)) {
      changes.push({ op: "add", path: `${path}/objectSelector`, value: selector });
    }
    return changes.length === 0
      ? []
      : [{ op: "test", path: `${path}/name`, value: name }, ...changes];
  });
}
