import type { ImagePolicy, ImagePolicySpec } from "#api/v1/image-policy.ts";
import type { Informer } from "#kube/informer.ts";

/** Which webhooks the API server has to ask. */
export interface WebhookNeed {
  /** `undefined` for those that it is always to ask. */
  isNeeded(webhook: string): boolean | undefined;
  /** Calls `listener` when another answer is possible. */
  onChange(listener: () => void): Disposable;
}

/** Tells from the policies of a cluster which webhooks it takes to carry them out. */
export function needOfPolicies(
  policies: Pick<Informer<ImagePolicy>, "list" | "onChange">,
): WebhookNeed {
  return {
    isNeeded(webhook) {
      const isOne = needs[webhook];
      return isOne && policies.list().some(({ spec }) => isOne(spec));
    },
    onChange: (listener) => policies.onChange(() => listener()),
  };
}

/** Webhooks that are for policies alone, and for which. */
const needs: Readonly<Record<string, (spec: ImagePolicySpec) => boolean>> = {
  "policies.stvz.io": ({ mode }) => mode === "Force",
  // What is only told, the other webhooks tell.
  "pods-admit.stvz.io": ({ mode, admit, enforcement }) =>
    mode !== "Off" && admit !== "Any" && enforcement === "Enforce",
};
