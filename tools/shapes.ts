import { spawnSync } from "node:child_process";

import * as z from "zod/mini";

import type { KindDefinition } from "#api/v1/schema.ts";
import type { KindShape, Shape } from "#api/v1/shape.ts";
import type { Schema } from "./crd.ts";
import { root } from "./generated.ts";

/** Makes the module of shapes, which `#api/v1/resources.ts` checks objects with. */
export function shapesModule(kinds: readonly KindDefinition[]): string {
  const text = [
    "// Generated from src/api/ by tools/generate-crds.ts, do not edit.",
    'import type { KindShape } from "#api/v1/shape.ts";',
    ...kinds.map((definition) => {
      const { kind } = definition;
      const name = `${kind.charAt(0).toLowerCase()}${kind.slice(1)}Shape`;
      return `\nexport const ${name}: KindShape = ${JSON.stringify(kindShapeOf(definition))};`;
    }),
  ].join("\n");
  return format(text);
}

/** Says what `Resource` needs of a kind. */
export function kindShapeOf({ kind, plural, namespaced, schema }: KindDefinition): KindShape {
  // What the API server returns: fields with a default are there.
  const output = z.toJSONSchema(schema, { target: "openapi-3.0", io: "output" });
  return { kind, plural, namespaced, shape: shapeOf(output) };
}

function shapeOf(schema: Schema): Shape {
  if (schema["x-kubernetes-int-or-string"] === true) return "integer or string";
  if (schema.enum) return { oneOf: schema.enum.map(String) };
  if (isScalarType(schema.type)) return schema.type;
  if (schema.type === "array") return { listOf: shapeOf(single(schema.items)) };
  if (schema.additionalProperties) return { mapOf: shapeOf(single(schema.additionalProperties)) };
  if (schema.type !== "object") throw new TypeError(`No shape for ${JSON.stringify(schema)}`);
  const fields = Object.entries(schema.properties ?? {});
  return {
    fields: Object.fromEntries(fields.map(([name, field]) => [name, shapeOf(single(field))])),
    required: schema.required ?? [],
  };
}

function isScalarType(type: Schema["type"]): type is "string" | "integer" | "boolean" {
  return type === "string" || type === "integer" || type === "boolean";
}

function single(schema: Schema["items"] | Schema["additionalProperties"]): Schema {
  if (typeof schema === "object" && !Array.isArray(schema)) return schema;
  throw new TypeError("A schema must be an object");
}

/** Formats as `oxfmt` does for the whole tree, so that the formatter leaves the file alone. */
function format(text: string): string {
  const { status, stdout, stderr } = spawnSync("oxfmt", ["--stdin-filepath", "shapes.ts"], {
    cwd: root,
    input: text,
    encoding: "utf8",
    timeout: 30_000,
  });
  if (status !== 0) throw new Error(`oxfmt ended with ${status}: ${stderr}`);
  return stdout;
}
