import { apiGroup, apiVersion } from "#api/v1/group.ts";
import type { KindDefinition } from "#api/v1/schema.ts";
import { schemaOf, type Schema } from "./crd.ts";

/** Makes the reference page of kinds, in Markdown. */
export function kindsPage(kinds: readonly KindDefinition[]): string {
  return [
    "<!-- Generated from src/api/ by tools/generate-crds.ts, do not edit. -->",
    "",
    "# Kinds",
    "",
    `All are in \`${apiGroup}/${apiVersion}\` and in the category \`coral\`: \`kubectl get coral -A\`.`,
    ...kinds.flatMap(kindSection),
    "",
  ].join("\n");
}

function kindSection(definition: KindDefinition): string[] {
  const { kind, plural, shortNames, namespaced, description, columns } = definition;
  const schema = schemaOf(definition);
  return [
    "",
    `## ${kind}`,
    "",
    description,
    "",
    `${namespaced ? "Namespaced" : "Cluster-wide"}; \`${plural}\`, short ${shortNames.map((name) => `\`${name}\``).join(", ")}.`,
    "",
    "| field | type | limits | meaning |",
    "|---|---|---|---|",
    ...fieldRows(schema, ""),
    ...ruleLines(schema),
    "",
    "| column | meaning |",
    "|---|---|",
    ...columns.map(
      ({ name, description: meaning, priority }) =>
        `| ${name} | ${meaning}${priority ? " With `-o wide`." : ""} |`,
    ),
  ];
}

function fieldRows(schema: Schema, path: string): string[] {
  return propertiesOf(schema).flatMap(([name, property]) => {
    const place = path === "" ? name : `${path}.${name}`;
    const isRequired = schema.required?.includes(name) ?? false;
    const row = `| \`${place}\` | ${typeOf(property)} | ${limitsOf(property, isRequired)} | ${cell(property.description ?? "")} |`;
    const item = itemOf(property);
    return [row, ...fieldRows(item ?? property, item ? `${place}[]` : place)];
  });
}

function typeOf(schema: Schema): string {
  const item = itemOf(schema);
  if (item) return `list of ${typeOf(item)}`;
  if (schema["x-kubernetes-int-or-string"]) return "integer or string";
  return schema.format === "date-time" ? "time" : String(schema.type);
}

function limitsOf(schema: Schema, isRequired: boolean): string {
  const text = itemOf(schema) ?? schema;
  const keys = schema["x-kubernetes-list-map-keys"];
  return cell(
    [
      ...(isRequired ? ["required"] : []),
      ...(schema.default === undefined ? [] : [`default \`${JSON.stringify(schema.default)}\``]),
      ...(text.enum ? [text.enum.map((value) => `\`${String(value)}\``).join(" ")] : []),
      ...range(schema.minItems, schema.maxItems, "items"),
      ...(Array.isArray(keys) ? [`by \`${keys.join(", ")}\``] : []),
      ...range(text.minLength, text.maxLength, "characters"),
      ...range(schema.minimum, schema.maximum, ""),
    ].join("; "),
  );
}

function range(least: number | undefined, most: number | undefined, unit: string): string[] {
  const suffix = unit === "" ? "" : ` ${unit}`;
  if (least !== undefined && most !== undefined) return [`${least} to ${most}${suffix}`];
  if (most !== undefined) return [`at most ${most}${suffix}`];
  return least === undefined ? [] : [`at least ${least}${suffix}`];
}

/** Lists what the API server refuses beyond the types, once each. */
function ruleLines(schema: Schema): string[] {
  const messages = [...new Set(rulesOf(schema, ""))];
  return messages.length === 0 ? [] : ["", "The API server also checks:", "", ...messages];
}

function rulesOf(schema: Schema, path: string): string[] {
  const rules = schema["x-kubernetes-validations"];
  const own = Array.isArray(rules)
    ? rules.map(({ message, fieldPath = "" }: { message?: string; fieldPath?: string }) => {
        return `- \`${path}${fieldPath}\`: ${message}`;
      })
    : [];
  const item = itemOf(schema);
  const below = propertiesOf(schema).flatMap(([name, property]) =>
    rulesOf(property, path === "" ? name : `${path}.${name}`),
  );
  return [...own, ...below, ...(item ? rulesOf(item, `${path}[]`) : [])];
}

const shared = new Set(["apiVersion", "kind", "metadata"]);

/** The fields of an object, without those that every kind has. */
function propertiesOf({ properties = {} }: Schema): [string, Schema][] {
  return Object.entries(properties).flatMap(([name, property]): [string, Schema][] =>
    typeof property === "boolean" || shared.has(name) ? [] : [[name, property]],
  );
}

function itemOf({ items }: Schema): Schema | undefined {
  return typeof items === "object" && !Array.isArray(items) ? items : undefined;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}
