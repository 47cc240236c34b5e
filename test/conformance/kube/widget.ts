import { type Resource } from "#kube/resource.ts";
import { parseObject } from "#kube/shape.ts";
import type { KubeObject } from "#kube/types.ts";

/** A custom resource for tests, namespaced and with a status subresource. */
export interface Widget extends KubeObject {
  readonly spec?: { readonly size?: number };
  readonly status?: { readonly ready?: boolean };
}

export const widgets: Resource<Widget> = {
  group: "test.stvz.io",
  version: "v1",
  plural: "widgets",
  kind: "Widget",
  namespaced: true,
  parse: parseObject,
};

/** Its definition, for an API server that has to be told. */
export const widgetDefinition = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "widgets.test.stvz.io" },
  spec: {
    group: widgets.group,
    scope: "Namespaced",
    names: { plural: widgets.plural, singular: "widget", kind: widgets.kind },
    versions: [
      {
        name: widgets.version,
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: "object",
            properties: {
              spec: { type: "object", properties: { size: { type: "integer" } } },
              status: { type: "object", properties: { ready: { type: "boolean" } } },
            },
          },
        },
      },
    ],
  },
};
