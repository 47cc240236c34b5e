import type { ImageExplanation, PodExplanation } from "./explanation.ts";
import type { Whereabouts } from "./whereabouts.ts";

/** Names of nodes that are shown; the form for programs has all. */
const maxNames = 10;

/** Writes an explanation for people: a block for the pod, and one for each of its images. */
export function formatExplanation(explanation: PodExplanation): string {
  const { namespace, name, createdBy } = explanation;
  const who = createdBy.user === "" ? "somebody" : createdBy.user;
  const head = plain(`Pod ${namespace}/${name || "(no name yet)"}, made by ${who}`);
  const whole = fieldLines([
    ["would be", verdictOf(explanation)],
    ...explanation.refusals.map((text): Field => ["refused", text]),
    ...explanation.warnings.map((text): Field => ["warning", text]),
    ...Object.entries(explanation.audit).map(([key, text]): Field => [
      "audit log",
      `${key}: ${text}`,
    ]),
    ...explanation.reasons.map((text): Field => ["because", text]),
  ]);
  const blocks = explanation.images.map((image) =>
    [`${kindNames[image.kind]} "${image.name}"`, ...fieldLines(fieldsOf(image))].join("\n"),
  );
  return `${[[head, ...whole].join("\n"), ...blocks].join("\n\n")}\n`;
}

type Field = readonly [label: string, text: string];

const kindNames = {
  initContainer: "init container",
  container: "container",
  ephemeralContainer: "ephemeral container",
  imageVolume: "image volume",
} as const;

function verdictOf({ verdict }: PodExplanation): string {
  switch (verdict) {
    case "refused":
      return "refused";
    case "changed":
      return "changed, and let in";
    case "unchanged":
      return "let in as it is";
  }
}

function fieldsOf(image: ImageExplanation): Field[] {
  const { image: given, reference, where, decidedBy, changes, refusal, reasons, policies } = image;
  const isOwnName = reference === undefined || reference === given;
  return [
    ["image", given === "" ? "(none)" : given],
    ...(isOwnName ? [] : [["full name", reference] as const]),
    ["is on", reference === undefined ? "no node: it is no image name" : formatWhere(where)],
    ["decided by", formatOrigin(decidedBy)],
    ...(changes.length === 0 ? [["change", "none"] as const] : []),
    ...changes.map((text): Field => ["change", text]),
    ...(refusal === undefined ? [] : [["refused", refusal] as const]),
    ...reasons.map((text): Field => ["because", text]),
    ...policies.map(({ policy, word }): Field => ["policy", `${policy}: ${word}`]),
  ];
}

function formatOrigin(origin: ImageExplanation["decidedBy"]): string {
  if (!origin) return "nobody";
  return origin.kind === "policy" ? `ImagePolicy "${origin.name}"` : "the pod's annotation";
}

/** Writes labels in a column of their own, each of a row of the same ones once. */
function fieldLines(fields: readonly Field[]): string[] {
  return fields.map(([label, text], index) => {
    const shown = label === fields[index - 1]?.[0] ? "" : label;
    return `  ${shown.padEnd(10)}  ${plain(text)}`;
  });
}

function formatWhere(where: Whereabouts | undefined): string {
  if (!where) return "nodes by chance only: no Image asks for it";
  const { plannedNodes, availableNodes, available, fitting, away, pending, error } = where;
  const parts = [
    `${availableNodes} of ${plannedNodes} nodes${available.length > 0 ? `: ${listOf(available)}` : ""}`,
    ...(fitting < available.length ? [`the pod may go to ${fitting} of them`] : []),
    ...(away.length > 0 ? [`there, but taking no pods now: ${listOf(away)}`] : []),
    ...(pending.length > 0 ? [`still to come on ${listOf(pending)}`] : []),
    ...(error.length > 0 ? [`failing on ${listOf(error)}`] : []),
  ];
  return parts.join("; ");
}

/** What a pod's author wrote goes to somebody else's terminal, which obeys control characters. */
function plain(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}]+/gu, " ");
}

function listOf(names: readonly string[]): string {
  const left = names.length - maxNames;
  const shown = names.slice(0, maxNames).join(", ");
  return left > 0 ? `${shown} and ${left} more` : shown;
}
