import { stringify } from "yaml";

import { imagePlanKind } from "#api/v1/image-plan.ts";
import { imagePolicyKind } from "#api/v1/image-policy.ts";
import { imageKind } from "#api/v1/image.ts";
import { mirrorShardKind } from "#api/v1/mirror-shard.ts";
import { mirrorKind } from "#api/v1/mirror.ts";
import { nodeReportKind } from "#api/v1/node-report.ts";
import { registryBudgetKind } from "#api/v1/registry-budget.ts";
import type { KindDefinition } from "#api/v1/schema.ts";
import { crdOf } from "./crd.ts";
import { putGenerated } from "./generated.ts";
import { kindsPage } from "./kinds-page.ts";
import { shapesModule } from "./shapes.ts";

/** In the order of the reference page. */
const kinds: readonly KindDefinition[] = [
  imageKind,
  mirrorKind,
  imagePolicyKind,
  nodeReportKind,
  imagePlanKind,
  mirrorShardKind,
  registryBudgetKind,
];

const header = "# Generated from src/api/ by tools/generate-crds.ts, do not edit.\n";

await putGenerated(
  new Map([
    ...kinds.map((kind): [string, string] => [
      `deploy/crds/${kind.plural}.yaml`,
      header + stringify(crdOf(kind), { lineWidth: 0, aliasDuplicateObjects: false }),
    ]),
    ["docs/reference/kinds.md", kindsPage(kinds)],
    ["src/api/v1/gen/shapes.ts", shapesModule(kinds)],
  ]),
);
