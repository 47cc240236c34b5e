import type { NodeReport, NodeReportStatus } from "#api/v1/node-report.ts";
import { nodeReports } from "#api/v1/resources.ts";
import type { KubeClient } from "#kube/client.ts";
import { ApiError, ConflictError } from "#kube/errors.ts";
import { metadataOf } from "#kube/resource.ts";
import type { KubeObject, OwnerReference } from "#kube/types.ts";

/**
 * Where the agent's own NodeReport is kept. Every method rejects when the API server is away. Who writes
 * gets back the metadata alone: a report is large, and the writer knows what it wrote.
 */
export interface ReportStore {
  /** Reads it; `undefined` if there is none. */
  read(options: { signal: AbortSignal }): Promise<NodeReport | undefined>;
  /** Makes it owned by the Node with this uid, and creates it if there is none. */
  ensure(nodeUid: string, options: { signal: AbortSignal }): Promise<KubeObject>;
  /** Replaces its status. @returns `undefined` if there is no report. */
  writeStatus(
    status: NodeReportStatus,
    options: { signal: AbortSignal },
  ): Promise<KubeObject | undefined>;
}

/** What the API server is to tell of reports. */
export const nodeReportMetadata = metadataOf(nodeReports);

/** Keeps the report of a node in the cluster. It reads, creates and patches that one object. */
export function clusterReportStore(
  client: Pick<KubeClient, "get" | "create" | "patch">,
  nodeName: string,
): ReportStore {
  const key = { name: nodeName };
  return {
    read: ({ signal }) => client.get(nodeReports, key, { signal }),

    async ensure(nodeUid, { signal }) {
      const ownerReferences = [ownerOf(nodeName, nodeUid)];
      try {
        const report = { metadata: { name: nodeName, ownerReferences } };
        return await client.create(nodeReportMetadata, report, { signal });
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
        const body = { metadata: { ownerReferences } };
        return client.patch(nodeReportMetadata, key, { type: "merge", body, signal });
      }
    },

    async writeStatus(status, { signal }) {
      try {
        // A merge patch replaces the list of images as a whole, and needs no resourceVersion: this
        // agent is the only writer.
        const change = { type: "merge", body: { status }, subresource: "status" } as const;
        return await client.patch(nodeReportMetadata, key, { ...change, signal });
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return undefined;
        throw error;
      }
    },
  };
}

/** With the Node, the garbage collector takes the report away. */
function ownerOf(name: string, uid: string): OwnerReference {
  return { apiVersion: "v1", kind: "Node", name, uid };
}
