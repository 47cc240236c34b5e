import * as z from "zod/mini";

import { boundedText, field, mapList, timestamp } from "./schema.ts";

/** The standard conditions of the Kubernetes API conventions. */
export const conditionsSchema = field(
  mapList(
    z.object({
      type: field(boundedText(316, { minLength: 1 }), "What the condition is about, like `Ready`."),
      status: field(z.enum(["True", "False", "Unknown"]), "Whether it holds."),
      observedGeneration: z.exactOptional(
        field(z.int().check(z.minimum(0)), "The `metadata.generation` that it is about."),
      ),
      lastTransitionTime: field(timestamp(), "When `status` last changed."),
      reason: field(
        boundedText(1_024, { minLength: 1, pattern: /^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/ }),
        "The finding, in one CamelCase word.",
      ),
      message: field(boundedText(32_768), "The finding, for people."),
    }),
    16,
    "type",
  ),
  "What can be said of the whole.",
);
