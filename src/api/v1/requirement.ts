import * as z from "zod/mini";

import { atomicList, boundedText, field, withRules } from "./schema.ts";
import { arities, operators, operatorsOf } from "./selector.ts";

const keyPattern =
  /^([a-z0-9]([a-z0-9.-]*[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const valuePattern = /^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$/;

/** The schema of `Requirement`. */
export const requirementSchema = withRules(
  z.object({
    key: field(
      boundedText(317, { minLength: 1, pattern: keyPattern }),
      "Name of a node label, like `kubernetes.io/arch`.",
    ),
    operator: field(
      z.enum(operators),
      "How the label and the values compare. A node without the label matches `NotIn`, `!=` and `DoesNotExist`, and no other. `Gt` and `Lt` compare whole numbers.",
    ),
    values: z.exactOptional(
      field(
        atomicList(boundedText(63, { pattern: valuePattern }), 64),
        "What the label is compared with.",
      ),
    ),
  }),
  {
    // Else a label could unselect the node that it stands for, and select it again, for ever.
    rule: "!self.key.matches('^image[.]stvz[.]io/[0-9a-f]{32}$')",
    message: "must not be a label that Coral itself writes",
    fieldPath: ".key",
  },
  ...arities.map((arity) => {
    const spellings = operatorsOf(arity).map((operator) => `'${operator}'`);
    return {
      rule: `!(self.operator in [${spellings.join(", ")}]) || (${arity.rule})`,
      message: arity.message,
      fieldPath: ".values",
    };
  }),
);
