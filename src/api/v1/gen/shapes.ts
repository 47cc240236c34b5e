// Generated from src/api/ by tools/generate-crds.ts, do not edit.
import type { KindShape } from "#api/v1/shape.ts";

export const imageShape: KindShape = {
  kind: "Image",
  plural: "images",
  namespaced: true,
  shape: {
    fields: {
      spec: {
        fields: {
          selector: {
            listOf: {
              fields: {
                key: "string",
                operator: {
                  oneOf: [
                    "In",
                    "NotIn",
                    "Exists",
                    "DoesNotExist",
                    "Gt",
                    "Lt",
                    "in",
                    "notin",
                    "exists",
                    "!",
                    "=",
                    "==",
                    "!=",
                    "gt",
                    "lt",
                  ],
                },
                values: { listOf: "string" },
              },
              required: ["key", "operator"],
            },
          },
          repositories: {
            listOf: {
              fields: {
                name: "string",
                tags: { listOf: "string" },
                digests: { listOf: "string" },
                listSelection: { oneOf: ["listed", "all"] },
                filter: {
                  fields: {
                    include: { listOf: "string" },
                    exclude: { listOf: "string" },
                    semver: "string",
                    newest: "integer",
                  },
                  required: [],
                },
              },
              required: ["name", "listSelection"],
            },
          },
          images: { listOf: "string" },
          imagePullSecrets: { listOf: { fields: { name: "string" }, required: ["name"] } },
          imagePullPolicy: { oneOf: ["IfNotPresent", "Always"] },
          priority: "integer",
          maxConcurrentNodes: "integer or string",
          nodeLabels: { oneOf: ["PerImage", "None"] },
        },
        required: [
          "selector",
          "repositories",
          "imagePullSecrets",
          "imagePullPolicy",
          "priority",
          "nodeLabels",
        ],
      },
      status: {
        fields: {
          observedGeneration: "integer",
          ready: "string",
          totalNodes: "integer",
          totalImages: "integer",
          condition: {
            fields: {
              available: "integer",
              pending: "integer",
              error: "integer",
              unknown: "integer",
            },
            required: ["available", "pending", "error", "unknown"],
          },
          data: {
            listOf: { fields: { name: "string", label: "string" }, required: ["name", "label"] },
          },
          images: {
            listOf: {
              fields: {
                reference: "string",
                digest: "string",
                label: "string",
                sizeBytes: "integer",
                available: "integer",
                pending: "integer",
                error: "integer",
                unknown: "integer",
                otherDigest: "integer",
                lastError: {
                  fields: { node: "string", reason: "string", message: "string", time: "string" },
                  required: ["node", "reason", "message", "time"],
                },
              },
              required: ["reference", "label", "available", "pending", "error", "unknown"],
            },
          },
          pullSecretsRevision: "string",
          conditions: {
            listOf: {
              fields: {
                type: "string",
                status: { oneOf: ["True", "False", "Unknown"] },
                observedGeneration: "integer",
                lastTransitionTime: "string",
                reason: "string",
                message: "string",
              },
              required: ["type", "status", "lastTransitionTime", "reason", "message"],
            },
          },
        },
        required: ["observedGeneration", "totalNodes", "totalImages", "condition"],
      },
    },
    required: ["spec"],
  },
};

export const nodeReportShape: KindShape = {
  kind: "NodeReport",
  plural: "nodereports",
  namespaced: false,
  shape: {
    fields: {
      status: {
        fields: {
          images: {
            listOf: {
              fields: {
                reference: "string",
                state: { oneOf: ["pending", "available", "error"] },
                digest: "string",
                sizeBytes: "integer",
                reason: "string",
                message: "string",
                attempts: "integer",
                since: "string",
              },
              required: ["reference", "state", "since"],
            },
          },
          runtime: { fields: { name: "string", version: "string" }, required: ["name", "version"] },
          agentVersion: "string",
          observedPlan: "string",
        },
        required: ["images", "runtime", "agentVersion", "observedPlan"],
      },
    },
    required: [],
  },
};

export const imagePlanShape: KindShape = {
  kind: "ImagePlan",
  plural: "imageplans",
  namespaced: true,
  shape: {
    fields: {
      spec: {
        fields: {
          selector: {
            listOf: {
              fields: {
                key: "string",
                operator: {
                  oneOf: [
                    "In",
                    "NotIn",
                    "Exists",
                    "DoesNotExist",
                    "Gt",
                    "Lt",
                    "in",
                    "notin",
                    "exists",
                    "!",
                    "=",
                    "==",
                    "!=",
                    "gt",
                    "lt",
                  ],
                },
                values: { listOf: "string" },
              },
              required: ["key", "operator"],
            },
          },
          priority: "integer",
          imageGeneration: "integer",
          imagePullPolicy: { oneOf: ["IfNotPresent", "Always"] },
          pullSecretsRevision: "string",
          maxConcurrentNodes: "integer or string",
          images: {
            listOf: {
              fields: {
                reference: "string",
                digest: "string",
                sizes: {
                  listOf: {
                    fields: { platform: "string", sizeBytes: "integer" },
                    required: ["platform", "sizeBytes"],
                  },
                },
              },
              required: ["reference"],
            },
          },
        },
        required: ["selector", "priority", "images"],
      },
    },
    required: ["spec"],
  },
};
