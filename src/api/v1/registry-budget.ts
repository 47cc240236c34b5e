import * as z from "zod/mini";

import type { KubeObject } from "#kube/types.ts";
import { boundedText, field, timestamp, type Frozen, type KindDefinition } from "./schema.ts";

const specSchema = z.object({
  host: field(boundedText(255, { minLength: 1 }), "The registry: `host[:port]`."),
  heldUntil: z.exactOptional(
    field(timestamp(), "Until when it wants to hear nothing at all of this login."),
  ),
  left: z.exactOptional(
    field(z.int().check(z.minimum(0)), "How many more counted requests it allowed."),
  ),
  resetTime: z.exactOptional(field(timestamp(), "When it allows all of them again.")),
  toldTime: field(timestamp(), "When it said so."),
});

/** The RegistryBudget kind. */
export const registryBudgetKind = {
  kind: "RegistryBudget",
  plural: "registrybudgets",
  singular: "registrybudget",
  shortNames: ["rgb"],
  namespaced: true,
  description:
    "What a registry told one worker of the limits of one login, for the others to obey. Internal: in Coral's own namespace, written by the workers; the name does not tell the login.",
  schema: z.object({ spec: field(specSchema, "Written by the workers alone.") }),
  hasStatus: false,
  columns: [
    { name: "Host", type: "string", jsonPath: ".spec.host", description: "The registry." },
    {
      name: "Held until",
      type: "string",
      jsonPath: ".spec.heldUntil",
      description: "Until when it is left alone.",
    },
    {
      name: "Left",
      type: "integer",
      jsonPath: ".spec.left",
      description: "Requests that it allowed when it was last asked.",
    },
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Age." },
  ],
} as const satisfies KindDefinition;

export type RegistryBudgetSpec = Frozen<z.infer<typeof specSchema>>;

/** What is left to one login at one registry. */
export interface RegistryBudget extends KubeObject {
  readonly spec: RegistryBudgetSpec;
}
