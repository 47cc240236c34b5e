import * as z from "zod/mini";

import { apiGroup, apiVersion } from "#api/v1/group.ts";
import type { KindDefinition } from "#api/v1/schema.ts";

/** A JSON schema as a CustomResourceDefinition takes it: OpenAPI 3.0, structural. */
export type Schema = z.core.JSONSchema.BaseSchema;

/** Makes the CustomResourceDefinition of a kind. */
export function crdOf(definition: KindDefinition): object {
  const { kind, plural, singular, shortNames, namespaced, hasStatus, columns } = definition;
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${apiGroup}`, labels: { "app.kubernetes.io/part-of": "coral" } },
    spec: {
      group: apiGroup,
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular,
        shortNames: [...shortNames],
        categories: ["coral"],
      },
      scope: namespaced ? "Namespaced" : "Cluster",
      versions: [
        {
          name: apiVersion,
          served: true,
          storage: true,
          ...(hasStatus && { subresources: { status: {} } }),
          additionalPrinterColumns: columns.map((column) => ({ ...column })),
          schema: { openAPIV3Schema: schemaOf(definition) },
        },
      ],
    },
  };
}

/** Makes the structural schema of a kind's objects. */
export function schemaOf({ schema, description }: KindDefinition): Schema {
  const own = toOpenApi(schema);
  return {
    type: "object",
    description,
    required: own.required ?? [],
    properties: {
      apiVersion: { type: "string", description: "Always `stvz.io/v1`." },
      kind: { type: "string", description: "The kind." },
      metadata: { type: "object" },
      ...own.properties,
    },
  };
}

function toOpenApi(schema: z.ZodMiniType): Schema {
  return z.toJSONSchema(schema, {
    target: "openapi-3.0",
    io: "input", // What users write: fields with a default are not required.
    override: ({ jsonSchema }) => adapt(jsonSchema),
  });
}

/** Says in Kubernetes' dialect what zod says in its own. Changes the schema in place. */
function adapt(schema: Schema): void {
  if (schema["x-kubernetes-int-or-string"] === true) {
    schema.anyOf = [{ type: "integer" }, { type: "string" }]; // The only form that is allowed.
  }
  delete schema.propertyNames; // Structural schemas know only what the values of a map are.
  if (schema.type !== "integer") return;
  const isInt64 = schema.maximum === Number.MAX_SAFE_INTEGER;
  schema.format = isInt64 ? "int64" : "int32";
  for (const [keyword, limits] of [
    ["minimum", [Number.MIN_SAFE_INTEGER, -(2 ** 31)]],
    ["maximum", [Number.MAX_SAFE_INTEGER, 2 ** 31 - 1]],
  ] as const) {
    // The format says these already.
    if (limits.some((limit) => limit === schema[keyword])) delete schema[keyword];
  }
}
