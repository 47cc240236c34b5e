import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { Programs } from "#sandbox/toolchain/build.ts";
import { unpackCoral } from "./coral-program.ts";

/** One repository of one registry to the other, under its own path. */
export interface Errand {
  /** `host:port`, of registries with plain HTTP. */
  readonly source: string;
  readonly target: string;
  readonly repository: string;
}

export const contestantNames = ["coral", "crane", "regsync"] as const;

export type ContestantName = (typeof contestantNames)[number];

/** Writes what a contestant needs for an errand, and says the command that does it. */
export type Contestant = (errand: Errand) => Promise<string[]>;

/** Gets the programs ready, each with the settings that it has by itself. */
export async function prepareContestants(
  folder: string,
  programs: Programs,
  { signal }: { signal: AbortSignal },
): Promise<Readonly<Record<ContestantName, Contestant>>> {
  await mkdir(folder, { recursive: true });
  const coral = await unpackCoral(join(folder, "coral"), { signal });
  return {
    async coral({ source, target, repository }) {
      const mirror = {
        apiVersion: "stvz.io/v1",
        kind: "Mirror",
        metadata: { name: "bench" },
        spec: {
          registry: target,
          tls: { plainHTTP: true },
          destination: "{path}",
          repositories: [{ name: `${source}/${repository}`, listSelection: "all" }],
        },
      };
      const file = await writeJson(join(folder, "mirror.yaml"), mirror);
      return [...coral, "mirror", "run", "-f", file, "--plain-http", source];
    },
    async crane({ source, target, repository }) {
      const names = [source, target].map((host) => `${host}/${repository}`);
      return [programs.file("crane"), "--insecure", "cp", "--all-tags", ...names];
    },
    async regsync({ source, target, repository }) {
      const [from, to] = [source, target].map((host) => `${host}/${repository}`);
      const file = await writeJson(join(folder, "regsync.yaml"), {
        version: 1,
        creds: [source, target].map((registry) => ({ registry, tls: "disabled" })),
        sync: [{ source: from, target: to, type: "repository" }],
      });
      return [programs.file("regsync"), "once", "-c", file];
    },
  };
}

/** JSON is YAML. */
async function writeJson(path: string, value: object): Promise<string> {
  await writeFile(path, JSON.stringify(value));
  return path;
}
