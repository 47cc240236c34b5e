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

export const mirrorShape: KindShape = {
  kind: "Mirror",
  plural: "mirrors",
  namespaced: true,
  shape: {
    fields: {
      spec: {
        fields: {
          registry: "string",
          tls: {
            fields: {
              caSecret: { fields: { name: "string" }, required: ["name"] },
              plainHTTP: "boolean",
              insecureSkipVerify: "boolean",
            },
            required: ["plainHTTP", "insecureSkipVerify"],
          },
          pushSecret: { fields: { name: "string" }, required: ["name"] },
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
          imagePullSecrets: { listOf: { fields: { name: "string" }, required: ["name"] } },
          destination: "string",
          platforms: { listOf: "string" },
          referrers: "boolean",
          interval: "string",
          schedule: "string",
          timeZone: "string",
          removalPolicy: { oneOf: ["Retain", "Delete"] },
          gracePeriod: "string",
          suspend: "boolean",
        },
        required: [
          "registry",
          "repositories",
          "imagePullSecrets",
          "destination",
          "referrers",
          "removalPolicy",
          "gracePeriod",
          "suspend",
        ],
      },
      status: {
        fields: {
          observedGeneration: "integer",
          repositories: "integer",
          tags: "integer",
          synced: "integer",
          pending: "integer",
          failed: "integer",
          throttled: "integer",
          progress: "string",
          bytesCopied: "integer",
          lastSyncTime: "string",
          nextSyncTime: "string",
          failures: {
            listOf: {
              fields: { reference: "string", reason: "string", message: "string" },
              required: ["reference", "reason", "message"],
            },
          },
          removable: "integer",
          removed: "integer",
          removals: {
            listOf: {
              fields: { reference: "string", dueTime: "string", keptBy: "string" },
              required: ["reference", "dueTime"],
            },
          },
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
        required: [
          "repositories",
          "tags",
          "synced",
          "pending",
          "failed",
          "throttled",
          "progress",
          "bytesCopied",
        ],
      },
    },
    required: ["spec"],
  },
};

export const imagePolicyShape: KindShape = {
  kind: "ImagePolicy",
  plural: "imagepolicies",
  namespaced: false,
  shape: {
    fields: {
      spec: {
        fields: {
          priority: "integer",
          mode: { oneOf: ["Off", "OptIn", "Force"] },
          namespaceSelector: {
            fields: {
              matchLabels: { mapOf: "string" },
              matchExpressions: {
                listOf: {
                  fields: {
                    key: "string",
                    operator: { oneOf: ["In", "NotIn", "Exists", "DoesNotExist"] },
                    values: { listOf: "string" },
                  },
                  required: ["key", "operator"],
                },
              },
            },
            required: [],
          },
          images: { listOf: "string" },
          pullPolicy: { oneOf: ["Unchanged", "IfNotPresent", "Never"] },
          nodes: { oneOf: ["None", "Preferred", "Required"] },
          minNodes: "integer or string",
          admit: { oneOf: ["Any", "OnlyAvailable"] },
          enforcement: { oneOf: ["Enforce", "Warn", "Audit"] },
          includeContainers: { listOf: "string" },
          excludeContainers: { listOf: "string" },
          exempt: {
            fields: {
              namespaces: { listOf: "string" },
              users: { listOf: "string" },
              groups: { listOf: "string" },
            },
            required: [],
          },
        },
        required: ["priority", "mode", "pullPolicy", "nodes", "minNodes", "admit", "enforcement"],
      },
      status: {
        fields: {
          observedGeneration: "integer",
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
        required: [],
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

export const mirrorShardShape: KindShape = {
  kind: "MirrorShard",
  plural: "mirrorshards",
  namespaced: true,
  shape: {
    fields: {
      spec: {
        fields: {
          mirror: "string",
          cluster: "string",
          source: "string",
          target: "string",
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
          platforms: { listOf: "string" },
          referrers: "boolean",
          tls: {
            fields: {
              caSecret: { fields: { name: "string" }, required: ["name"] },
              plainHTTP: "boolean",
              insecureSkipVerify: "boolean",
            },
            required: ["plainHTTP", "insecureSkipVerify"],
          },
          pushSecret: { fields: { name: "string" }, required: ["name"] },
          imagePullSecrets: { listOf: { fields: { name: "string" }, required: ["name"] } },
          interval: "string",
          schedule: "string",
          timeZone: "string",
          gracePeriod: "string",
          suspend: "boolean",
          retired: "boolean",
          run: "string",
          removals: {
            listOf: { fields: { tag: "string", digest: "string" }, required: ["tag", "digest"] },
          },
        },
        required: [
          "mirror",
          "cluster",
          "source",
          "target",
          "listSelection",
          "referrers",
          "imagePullSecrets",
          "gracePeriod",
          "suspend",
        ],
      },
      status: {
        fields: {
          observedGeneration: "integer",
          observedRun: "string",
          worker: "string",
          tags: "integer",
          synced: "integer",
          pending: "integer",
          failed: "integer",
          throttled: "integer",
          bytesCopied: "integer",
          digestsDiffer: "boolean",
          lastSyncTime: "string",
          lastReferrersTime: "string",
          nextSyncTime: "string",
          throttledUntil: "string",
          failure: {
            fields: { reason: "string", message: "string" },
            required: ["reason", "message"],
          },
          failures: {
            listOf: {
              fields: { tag: "string", reason: "string", message: "string" },
              required: ["tag", "reason", "message"],
            },
          },
          secretProblems: {
            listOf: {
              fields: { name: "string", reason: "string", message: "string" },
              required: ["name", "reason", "message"],
            },
          },
          selection: "string",
          removable: "integer",
          removed: "integer",
          removals: {
            listOf: {
              fields: { tag: "string", digest: "string", dueTime: "string" },
              required: ["tag", "digest", "dueTime"],
            },
          },
          deleteUnsupported: "boolean",
        },
        required: ["tags", "synced", "pending", "failed", "throttled", "bytesCopied"],
      },
    },
    required: ["spec"],
  },
};

export const registryBudgetShape: KindShape = {
  kind: "RegistryBudget",
  plural: "registrybudgets",
  namespaced: true,
  shape: {
    fields: {
      spec: {
        fields: {
          host: "string",
          heldUntil: "string",
          left: "integer",
          resetTime: "string",
          toldTime: "string",
        },
        required: ["host", "toldTime"],
      },
    },
    required: ["spec"],
  },
};
