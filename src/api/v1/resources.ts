import type { Resource } from "#kube/resource.ts";
import { parseObject } from "#kube/shape.ts";
import type { KubeObject } from "#kube/types.ts";
import {
  imagePlanShape,
  imagePolicyShape,
  imageShape,
  mirrorShape,
  mirrorShardShape,
  nodeReportShape,
  registryBudgetShape,
} from "./gen/shapes.ts";
import { apiGroup, apiVersion } from "./group.ts";
import type { ImagePlan } from "./image-plan.ts";
import type { ImagePolicy } from "./image-policy.ts";
import type { Image } from "./image.ts";
import type { MirrorShard } from "./mirror-shard.ts";
import type { Mirror } from "./mirror.ts";
import type { NodeReport } from "./node-report.ts";
import type { RegistryBudget } from "./registry-budget.ts";
import { checkShape, type KindShape } from "./shape.ts";

// Objects are parsed as the API server returns them, with its defaults filled in.

export const images = resourceOf<Image>(imageShape);
export const imagePlans = resourceOf<ImagePlan>(imagePlanShape);
export const imagePolicies = resourceOf<ImagePolicy>(imagePolicyShape);
export const nodeReports = resourceOf<NodeReport>(nodeReportShape);
export const mirrors = resourceOf<Mirror>(mirrorShape);
export const mirrorShards = resourceOf<MirrorShard>(mirrorShardShape);
export const registryBudgets = resourceOf<RegistryBudget>(registryBudgetShape);

function resourceOf<T extends KubeObject>(definition: KindShape): Resource<T> {
  const { kind, plural, namespaced } = definition;

  function assertKind(value: unknown): asserts value is T {
    parseObject(value);
    checkShape(definition.shape, value, "");
  }

  return {
    group: apiGroup,
    version: apiVersion,
    plural,
    kind,
    namespaced,
    parse(value) {
      assertKind(value);
      return value;
    },
  };
}
