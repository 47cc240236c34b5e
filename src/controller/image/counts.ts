import type { ReportedImage } from "#api/v1/node-report.ts";
import type { Remark } from "#api/v1/remarks.ts";
import type { Requirement } from "#api/v1/selector.ts";

/** What the counts need to know of a node. */
export interface NodeFacts {
  readonly labels: Readonly<Record<string, string>>;
  /** Whether the agent runs there: a Linux node that is not being deleted. */
  readonly isTarget: boolean;
  /** Creation, in milliseconds since 1970. */
  readonly createdMs: number;
}

/** What the counts need to know of an Image. */
export interface ImageFacts {
  /** Each image once, by its full name. */
  readonly references: readonly string[];
  readonly selector: readonly Requirement[];
  /** Whether nodes get a label for each of its images. */
  readonly hasNodeLabels: boolean;
  /** What must be there of images whose tags are followed: any other digest is not yet the image. */
  readonly digests?: ReadonlyMap<string, string>;
}

/** Nodes by state. */
export interface StateCounts {
  available: number;
  pending: number;
  error: number;
  unknown: number;
}

/** A failed pull on one node. */
export interface Failure {
  readonly node: string;
  readonly image: ReportedImage;
}

/** A remark of one node, with the digest that it has. */
export interface Remarked {
  readonly node: string;
  readonly digest?: string;
}

/** What living nodes tell of one image, besides its state. */
export interface Findings {
  /** The failure that was met last, of the nodes that have one now. */
  readonly lastFailure?: Failure;
  /** What living nodes remark. */
  readonly remarked?: ReadonlyMap<Remark, readonly Remarked[]>;
}

/** How one image of an Image is doing. */
export interface ReferenceCounts extends StateCounts, Findings {
  readonly reference: string;
}

/** How an Image is doing. */
export interface ImageCounts {
  /** Selected nodes that are targets, each counted by its worst image. */
  readonly nodes: Readonly<StateCounts>;
  readonly totalNodes: number;
  /** Selected nodes that are no targets. */
  readonly excludedNodes: number;
  readonly references: readonly ReferenceCounts[];
}

/** All nodes that were counted. */
export function totalOf({ available, pending, error, unknown }: Readonly<StateCounts>): number {
  return available + pending + error + unknown;
}
