import { mkdir, writeFile } from "node:fs/promises";

import { hash } from "bcryptjs";

import { insideControlPlane } from "./control-plane.ts";
import type { Daemon } from "./daemon.ts";
import { controlPlaneAddress, type Layout } from "./layout.ts";
import type { RegistryHost } from "./registry-hosts.ts";
import type { Programs } from "./toolchain/build.ts";

/** Writes a registry's configuration and returns how it is started. */
export async function prepareRegistry(
  layout: Layout,
  registry: RegistryHost,
  programs: Programs,
): Promise<Daemon> {
  const folder = layout.path("registries", registry.id);
  await mkdir(`${folder}/data`, { recursive: true });
  const config: Record<string, unknown> = {
    version: 0.1,
    log: { level: "warn", accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: `${folder}/data` }, delete: { enabled: true } },
    http: { addr: `${controlPlaneAddress}:${registry.backendPort}` },
  };
  if (registry.login) {
    const { username, password } = registry.login;
    await writeFile(`${folder}/htpasswd`, `${username}:${await hash(password, 4)}\n`);
    config["auth"] = { htpasswd: { realm: "sandbox", path: `${folder}/htpasswd` } };
  }
  await writeFile(`${folder}/config.yaml`, JSON.stringify(config));
  return {
    id: registry.id,
    argv: insideControlPlane(layout, [programs.file("registry"), "serve", `${folder}/config.yaml`]),
    env: { OTEL_TRACES_EXPORTER: "none" }, // Else it looks for a collector for ever.
  };
}
