import * as z from "zod/mini";

import { boundedText, withRules } from "./schema.ts";

/** How many nodes: a number, or a percentage of those that an Image selects. */
export const concurrentNodesSchema = withRules(z.union([z.int32(), boundedText(4)]), {
  rule: "type(self) == int ? self >= 1 : self.matches('^([1-9][0-9]?|100)%$')",
  message: 'must be a whole number of at least 1, or a percentage from "1%" to "100%"',
}).check(z.meta({ "x-kubernetes-int-or-string": true }));
