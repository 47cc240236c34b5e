import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { imagePlanKind } from "#api/v1/image-plan.ts";
import { imagePolicyKind } from "#api/v1/image-policy.ts";
import { imageKind } from "#api/v1/image.ts";
import { mirrorShardKind } from "#api/v1/mirror-shard.ts";
import { mirrorKind } from "#api/v1/mirror.ts";
import { nodeReportKind } from "#api/v1/node-report.ts";
import { registryBudgetKind } from "#api/v1/registry-budget.ts";
import { schemaOf, type Schema } from "./crd.ts";

/** Every schema in a schema, by its path. */
function* everySchema(schema: Schema, path: string): Generator<[string, Schema]> {
  yield [path, schema];
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (typeof property === "object") yield* everySchema(property, `${path}.${name}`);
  }
  const { items } = schema;
  if (typeof items === "object" && !Array.isArray(items)) yield* everySchema(items, `${path}[]`);
}

for (const kind of [
  imageKind,
  imagePolicyKind,
  nodeReportKind,
  imagePlanKind,
  mirrorKind,
  mirrorShardKind,
  registryBudgetKind,
]) {
  describe(`the schema of ${kind.kind}`, () => {
    const schemas = [...everySchema(schemaOf(kind), "")];

    test("bounds each list and says how it is merged", () => {
      for (const [path, schema] of schemas.filter(([, { type }]) => type === "array")) {
        if (path === ".spec.images" && kind === imageKind) continue; // Refused whatever it holds.
        assert.ok(schema.maxItems, path);
        assert.ok(schema["x-kubernetes-list-type"], path);
      }
    });

    test("bounds each text", () => {
      for (const [path, schema] of schemas.filter(([, { type }]) => type === "string")) {
        const isBounded = schema.maxLength ?? schema.enum ?? schema.format === "date-time";
        assert.ok(isBounded || /^\.(kind|apiVersion|spec\.images\[\])$/.test(path), path);
      }
    });

    test("describes each field", () => {
      for (const [path, schema] of schemas) {
        if (path !== "" && path !== ".metadata" && !path.endsWith("[]")) {
          assert.ok(schema.description, path);
        }
      }
    });
  });
}
