import { access, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { insideControlPlane } from "./control-plane.ts";
import type { Daemon } from "./daemon.ts";
import { controlPlaneAddress, type Layout } from "./layout.ts";
import { loginsFile, pushLogin, writeLogins } from "./logins.ts";
import { tokenRegistry, tokenRealm, type RegistryHost } from "./registry-hosts.ts";
import {
  generateTokenKey,
  signToken,
  tokenIssuer,
  tokenKeySet,
  tokenService,
} from "./token-realm/token.ts";
import type { Programs } from "./toolchain/build.ts";

/** Writes a registry's configuration and returns how it is started. Logins that were set stay. */
export async function prepareRegistry(
  layout: Layout,
  registry: RegistryHost,
  programs: Programs,
): Promise<Daemon> {
  const folder = layout.path("registries", registry.id);
  await mkdir(`${folder}/data`, { recursive: true });
  const auth = await prepareAuth(layout, registry);
  const config = {
    version: 0.1,
    log: { level: "warn", accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: `${folder}/data` }, delete: { enabled: true } },
    http: { addr: `${controlPlaneAddress}:${registry.backendPort}` },
    ...(auth && { auth }),
  };
  await writeFile(`${folder}/config.yaml`, JSON.stringify(config));
  return {
    id: registry.id,
    argv: insideControlPlane(layout, [programs.file("registry"), "serve", `${folder}/config.yaml`]),
    env: { OTEL_TRACES_EXPORTER: "none" }, // Else it looks for a collector for ever.
  };
}

/** How the realm of the token registry is started. The registry must have been prepared. */
export function realmDaemon(layout: Layout): Daemon {
  const main = join(import.meta.dirname, "token-realm/main.ts");
  const files = [keyFile(layout, tokenRegistry), loginsFile(layout, tokenRegistry)];
  const argv = insideControlPlane(layout, [process.execPath, main, ...files]);
  return { id: tokenRealm.id, argv };
}

/**
 * Writes a Docker configuration that may push to a repository, past the proxy and any realm.
 *
 * @returns its folder, for `DOCKER_CONFIG`.
 */
export async function writePushConfig(
  layout: Layout,
  registry: RegistryHost,
  repository: string,
): Promise<string> {
  const folder = layout.path("registries", registry.id, "push");
  await mkdir(folder, { recursive: true });
  const access = [{ type: "repository", name: repository, actions: ["pull", "push"] }];
  const grant = { access, subject: pushLogin.username, time: new Date() };
  const login = registry.realm
    ? { registrytoken: signToken(await readFile(keyFile(layout, registry), "utf8"), grant) }
    : pushLogin;
  const auths = { [`${controlPlaneAddress}:${registry.backendPort}`]: login };
  await writeFile(join(folder, "config.json"), JSON.stringify({ auths }));
  return folder;
}

async function prepareAuth(
  layout: Layout,
  registry: RegistryHost,
): Promise<Record<string, unknown> | undefined> {
  const { logins, realm } = registry;
  if (!logins) return undefined;
  const file = loginsFile(layout, registry);
  if (!(await exists(file))) await writeLogins(layout, registry, logins);
  if (!realm) return { htpasswd: { realm: "sandbox", path: file } };
  const key = keyFile(layout, registry);
  if (!(await exists(key))) await writeFile(key, generateTokenKey());
  const jwks = layout.path("registries", registry.id, "jwks.json");
  await writeFile(jwks, JSON.stringify(tokenKeySet(await readFile(key, "utf8"))));
  return {
    token: {
      realm: `http://${realm.host}/token`,
      service: tokenService,
      issuer: tokenIssuer,
      jwks,
    },
  };
}

function keyFile(layout: Layout, { id }: RegistryHost): string {
  return layout.path("registries", id, "realm.key");
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
