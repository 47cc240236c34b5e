import { mkdir, readFile, rename, writeFile } from "node:fs/promises";

import type { Layout } from "./layout.ts";
import type { ProcessId } from "./process-id.ts";

/** What a process needs to know of a sandbox that another one started. */
export interface SandboxState {
  /** The process with which the sandbox ends; without it the sandbox stays until `down`. */
  owner?: ProcessId;
  /** Numbers of the nodes that exist. */
  nodes: number[];
  /** The next node's number: numbers of removed nodes are not given again. */
  nextNode: number;
  /** Ports on the host's 127.0.0.1. */
  ports: { apiServer: number; registry: number };
}

/** Name of the state's file in a sandbox's folder. */
export const stateFile = "sandbox.json";

/** @returns `undefined` if the sandbox was never started, or only in part. */
export async function readState(layout: Layout): Promise<SandboxState | undefined> {
  let text: string;
  try {
    text = await readFile(layout.path(stateFile), "utf8");
  } catch {
    return undefined;
  }
  try {
    return parseState(JSON.parse(text));
  } catch {
    return undefined; // Cut short by a full disk or a power cut: not a sandbox that works.
  }
}

/** Replaces the state at once, so that no reader sees half of it. */
export async function writeState(layout: Layout, state: SandboxState): Promise<void> {
  await mkdir(layout.folder, { recursive: true });
  const file = layout.path(stateFile);
  await writeFile(`${file}.${process.pid}`, JSON.stringify(state));
  await rename(`${file}.${process.pid}`, file);
}

function parseState(value: unknown): SandboxState {
  if (isState(value)) return value;
  throw new TypeError("A sandbox's state must have nodes, nextNode and ports");
}

function isState(value: unknown): value is SandboxState {
  if (typeof value !== "object" || value === null) return false;
  if (!("nodes" in value) || !("nextNode" in value) || !("ports" in value)) return false;
  return Array.isArray(value.nodes) && typeof value.nextNode === "number";
}
