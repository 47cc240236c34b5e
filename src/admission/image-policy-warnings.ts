import type { ImagePolicySpec } from "#api/v1/image-policy.ts";

/** Lists what the author of an ImagePolicy may not have meant. None of it is a fault. */
export function imagePolicyWarnings(spec: ImagePolicySpec): string[] {
  const { mode, pullPolicy, nodes, admit, includeContainers = [], excludeContainers = [] } = spec;
  const doesNothing = pullPolicy === "Unchanged" && nodes === "None" && admit === "Any";
  return [
    ...(mode === "Force" && doesNothing
      ? [
          "spec: changes nothing and refuses nothing, but keeps policies with a lower priority from these images; set pullPolicy, nodes or admit",
        ]
      : []),
    ...(mode === "Off" && !doesNothing
      ? ['spec.mode: "Off" leaves these images alone, so pullPolicy, nodes and admit are not used']
      : []),
    ...(mode !== "Off" && pullPolicy === "Never" && nodes !== "Required"
      ? [
          'spec.pullPolicy: "Never" acts as "IfNotPresent", unless nodes is "Required": else a pod could go where its image is not',
        ]
      : []),
    ...(mode === "OptIn" && admit === "OnlyAvailable"
      ? ['spec.admit: with mode "OptIn", pods without the annotation are let in whatever they run']
      : []),
    ...(includeContainers.length > 0 && excludeContainers.length > 0
      ? [
          "spec.excludeContainers: is not used while spec.includeContainers says which containers count",
        ]
      : []),
  ];
}
