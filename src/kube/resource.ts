import type { ObjectKey } from "./key.ts";
import {
  each,
  fields,
  having,
  isBoolean,
  isNumber,
  isText,
  isTextMap,
  parseObject,
  requireObject,
} from "./shape.ts";
import type {
  ConfigMap,
  Event,
  KubeObject,
  Lease,
  Node,
  Pod,
  Secret,
  WebhookConfiguration,
} from "./types.ts";

export { MalformedObjectError } from "./shape.ts";

/** A kind as the API server serves it, and how its objects are read. */
export interface Resource<T extends KubeObject> {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** All of an object if not given; or what `metadataOf` says. */
  readonly view?: "metadata";
  /**
   * Checks what Coral reads of an object, and returns it. Unknown fields stay.
   *
   * @throws {MalformedObjectError} naming the field.
   */
  readonly parse: (value: unknown) => T;
}

/**
 * The same kind, of which the API server sends the metadata alone (PartialObjectMetadata), whatever is
 * asked for. What is written stays whole.
 */
export function metadataOf(resource: Resource<KubeObject>): Resource<KubeObject> {
  return { ...resource, view: "metadata", parse: parseObject };
}

/** The `apiVersion` of a resource's objects: `v1`, or `group/version`. */
export function apiVersionOf({ group, version }: Resource<KubeObject>): string {
  return group === "" ? version : `${group}/${version}`;
}

/** The URL path of a resource's collection: of one namespace, or of the whole cluster. */
export function collectionPath(resource: Resource<KubeObject>, namespace?: string): string {
  const { group, version, plural, namespaced } = resource;
  const root = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  const scope = namespaced && namespace ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${root}${scope}/${plural}`;
}

/** The URL path of one object. */
export function objectPath(resource: Resource<KubeObject>, key: ObjectKey): string {
  if (resource.namespaced && !key.namespace) {
    throw new TypeError(`The key of ${resource.kind} "${key.name}" must have a namespace`);
  }
  return `${collectionPath(resource, key.namespace)}/${encodeURIComponent(key.name)}`;
}

const conditions = each(having(["type", "status"], fields({ reason: isText, message: isText })));

const checkNode = fields({
  spec: fields({
    unschedulable: isBoolean,
    taints: each(having(["key", "effect"], fields({ value: isText }))),
  }),
  status: fields({
    conditions,
    nodeInfo: fields({
      architecture: isText,
      operatingSystem: isText,
      containerRuntimeVersion: isText,
    }),
  }),
});

export const nodes: Resource<Node> = {
  group: "",
  version: "v1",
  plural: "nodes",
  kind: "Node",
  namespaced: false,
  parse(value) {
    const node = parseObject(value);
    checkNode(node, "");
    return node;
  },
};

const containers = each(having(["name"], fields({ image: isText, imagePullPolicy: isText })));

const checkPod = fields({
  spec: fields({
    nodeName: isText,
    initContainers: containers,
    containers,
    ephemeralContainers: containers,
  }),
  status: fields({ phase: isText, podIP: isText, conditions }),
});

export const pods: Resource<Pod> = {
  group: "",
  version: "v1",
  plural: "pods",
  kind: "Pod",
  namespaced: true,
  parse(value) {
    const pod = parseObject(value);
    checkPod(pod, "");
    return pod;
  },
};

/** Of which Coral reads metadata alone. */
export const namespaces: Resource<KubeObject> = {
  group: "",
  version: "v1",
  plural: "namespaces",
  kind: "Namespace",
  namespaced: false,
  parse: parseObject,
};

const checkLease = fields({
  spec: fields({
    holderIdentity: isText,
    leaseDurationSeconds: isNumber,
    acquireTime: isText,
    renewTime: isText,
    leaseTransitions: isNumber,
  }),
});

export const leases: Resource<Lease> = {
  group: "coordination.k8s.io",
  version: "v1",
  plural: "leases",
  kind: "Lease",
  namespaced: true,
  parse(value) {
    const lease = parseObject(value);
    checkLease(lease, "");
    return lease;
  },
};

const checkEvent = fields({
  eventTime: isText,
  type: isText,
  reason: isText,
  action: isText,
  note: isText,
  regarding: fields({ kind: isText, namespace: isText, name: isText }),
  reportingController: isText,
  series: fields({ count: isNumber, lastObservedTime: isText }),
});

export const events: Resource<Event> = {
  group: "events.k8s.io",
  version: "v1",
  plural: "events",
  kind: "Event",
  namespaced: true,
  parse(value) {
    assertEvent(value);
    return value;
  },
};

function assertEvent(value: unknown): asserts value is Event {
  const event = requireObject(parseObject(value), "object");
  requireObject(event["regarding"], "regarding");
  checkEvent(event, "");
}

const checkSecret = fields({ type: isText, data: isTextMap });

export const secrets: Resource<Secret> = {
  group: "",
  version: "v1",
  plural: "secrets",
  kind: "Secret",
  namespaced: true,
  parse(value) {
    const secret = parseObject(value);
    checkSecret(secret, "");
    return secret;
  },
};

const checkConfigMap = fields({ data: isTextMap });

export const configMaps: Resource<ConfigMap> = {
  group: "",
  version: "v1",
  plural: "configmaps",
  kind: "ConfigMap",
  namespaced: true,
  parse(value) {
    const configMap = parseObject(value);
    checkConfigMap(configMap, "");
    return configMap;
  },
};

const checkSelector = fields({
  matchLabels: isTextMap,
  matchExpressions: each(having(["key", "operator"], fields({ values: each(isText) }))),
});

const checkWebhooks = fields({
  webhooks: each((webhook, field) => {
    requireObject(requireObject(webhook, field)["clientConfig"], `${field}.clientConfig`);
    having(
      ["name"],
      fields({ clientConfig: fields({ caBundle: isText }), objectSelector: checkSelector }),
    )(webhook, field);
  }),
});

function parseWebhooks(value: unknown): WebhookConfiguration {
  const configuration = parseObject(value);
  checkWebhooks(configuration, "");
  return configuration;
}

export const validatingWebhookConfigurations: Resource<WebhookConfiguration> = {
  group: "admissionregistration.k8s.io",
  version: "v1",
  plural: "validatingwebhookconfigurations",
  kind: "ValidatingWebhookConfiguration",
  namespaced: false,
  parse: parseWebhooks,
};

export const mutatingWebhookConfigurations: Resource<WebhookConfiguration> = {
  group: "admissionregistration.k8s.io",
  version: "v1",
  plural: "mutatingwebhookconfigurations",
  kind: "MutatingWebhookConfiguration",
  namespaced: false,
  parse: parseWebhooks,
};
