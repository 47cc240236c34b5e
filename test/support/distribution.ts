import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { hash } from "bcryptjs";
import { ensurePrograms } from "#sandbox/toolchain/build.ts";

/** A registry that a test has to itself, on loopback with plain HTTP. */
export interface Distribution extends AsyncDisposable {
  readonly host: string;
}

interface Login {
  readonly username: string;
  readonly password: string;
}

/** The program that is each version's, and the optional tool set that it comes from. */
const versions = {
  "2.8": { program: "registry-2.8", argv: [], optional: ["registry2"] },
  "3.1": { program: "registry", argv: ["serve"], optional: [] },
} as const;

export type DistributionVersion = keyof typeof versions;

/**
 * Starts the CNCF's registry with an empty storage. It asks for the login, if one is given.
 *
 * It takes a free port and says which in its log, so that nobody else can take it in between.
 */
export async function startDistribution(
  login: Login | undefined,
  options: {
    readonly signal: AbortSignal;
    readonly version?: DistributionVersion;
    /** Whether it removes anything. As it comes it does not. */
    readonly canDelete?: boolean;
  },
): Promise<Distribution> {
  const { signal, version = "3.1", canDelete = true } = options;
  const { program, argv, optional } = versions[version];
  const programs = await ensurePrograms({ report: console.log, optional, signal });
  const folder = await mkdtemp(join(tmpdir(), "coral-distribution-"));
  const htpasswd = join(folder, "htpasswd");
  if (login) await writeFile(htpasswd, `${login.username}:${await hash(login.password, 4)}\n`);
  const config = {
    version: 0.1,
    log: { level: "info", formatter: "json", accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: join(folder, "data") },
      delete: { enabled: canDelete },
    },
    http: { addr: "127.0.0.1:0", secret: "for a single registry" },
    ...(login && { auth: { htpasswd: { realm: "conformance", path: htpasswd } } }),
  };
  await writeFile(join(folder, "config.yaml"), JSON.stringify(config));
  const registry = spawn(programs.file(program), [...argv, join(folder, "config.yaml")], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, OTEL_TRACES_EXPORTER: "none" },
  });
  const exited = once(registry, "exit");
  const lines: string[] = [];
  for await (const line of createInterface({ input: registry.stderr })) {
    lines.push(line);
    const [, host] = /listening on (127\.0\.0\.1:\d+)/.exec(line) ?? [];
    if (host === undefined) continue;
    registry.stderr.resume(); // What it says from now on is not kept, and does not block it.
    return {
      host,
      async [Symbol.asyncDispose]() {
        registry.kill("SIGKILL");
        await exited;
        await rm(folder, { recursive: true, force: true });
      },
    };
  }
  await rm(folder, { recursive: true, force: true });
  throw new Error(`The registry does not start:\n${lines.join("\n")}`);
}
