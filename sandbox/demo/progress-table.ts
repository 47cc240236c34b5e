import { styleText } from "node:util";

import type { ImageState, NodeReport } from "#api/v1/node-report.ts";

/** How one image is doing on one node. */
export interface Cell {
  state: ImageState | "unknown";
  sizeBytes?: number;
  /** Seconds from the start until it was seen there. */
  seconds?: number;
}

const colours = {
  available: "green",
  pending: "yellow",
  error: "red",
  unknown: "gray",
} as const;

/** What is shown: each image on each node, with the time at which it was first seen there. */
export class Progress {
  readonly #start = performance.now();
  readonly #arrivals = new Map<string, number>();

  /** Seconds since the start. */
  get seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  /** Reads what a node's report says of one image. */
  look(node: string, report: NodeReport | undefined, reference: string): Cell {
    const image = report?.status?.images.find((each) => each.reference === reference);
    if (!image) return { state: "unknown" };
    const { state, sizeBytes } = image;
    const cell = { state, ...(sizeBytes !== undefined && { sizeBytes }) };
    if (state !== "available") return cell;
    const key = `${node} ${reference}`;
    const seconds = this.#arrivals.get(key) ?? this.seconds;
    this.#arrivals.set(key, seconds);
    return { ...cell, seconds };
  }
}

/** Formats a table of nodes and images, a line for each node. */
export function formatTable(
  nodes: readonly string[],
  references: readonly string[],
  cell: (node: string, reference: string) => Cell,
): string[] {
  const columns = references.map(shortName);
  const width = 30;
  const header = ["node".padEnd(8), ...columns.map((name) => name.padEnd(width))].join(" ");
  const rows = nodes.map((node) => {
    const cells = references.map((reference) => formatCell(cell(node, reference), width));
    return [node.padEnd(8), ...cells].join(" ");
  });
  return [styleText("bold", header), ...rows];
}

/** Formats one cell, padded to `width` columns: `available  181.2 MB  2.1 s`. */
export function formatCell({ state, sizeBytes, seconds }: Cell, width: number): string {
  const size = sizeBytes === undefined ? "" : `${(sizeBytes / 1e6).toFixed(1)} MB`;
  const time = seconds === undefined ? "" : `${seconds.toFixed(1)} s`;
  const text = `${state.padEnd(9)} ${size.padStart(9)} ${time.padStart(7)}`.trimEnd();
  return styleText(colours[state], text.padEnd(width));
}

/** Cuts the registry off, which is the same for all. */
export function shortName(reference: string): string {
  return reference.slice(reference.indexOf("/") + 1);
}
