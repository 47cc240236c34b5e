import { randomUUID } from "node:crypto";
import { rename, writeFile } from "node:fs/promises";

import { hash } from "bcryptjs";

import type { Layout } from "./layout.ts";
import type { RegistryHost, RegistryLogin } from "./registry-hosts.ts";

/** With this the sandbox itself pushes to a registry that asks for a login, whatever a test has set. */
export const pushLogin: RegistryLogin = { username: "sandbox", password: "pushes" };

/** Where a registry's logins are: an htpasswd file, or the table of its token realm. */
export function loginsFile(layout: Layout, { id, realm }: RegistryHost): string {
  return layout.path("registries", id, realm ? "logins.json" : "htpasswd");
}

/** Makes exactly these the logins of a registry. They hold from its next request on. */
export async function writeLogins(
  layout: Layout,
  registry: RegistryHost,
  logins: readonly RegistryLogin[],
): Promise<void> {
  const file = loginsFile(layout, registry);
  const content = registry.realm ? JSON.stringify(logins) : await htpasswd([...logins, pushLogin]);
  const draft = `${file}.${randomUUID()}`; // Renamed, so that nobody reads half of it.
  await writeFile(draft, content);
  await rename(draft, file);
}

/**
 * Parses the table that {@link writeLogins} writes for a token realm.
 *
 * @throws {TypeError} if it is no such table.
 */
export function parseLogins(json: string): RegistryLogin[] {
  const value: unknown = JSON.parse(json);
  if (Array.isArray(value) && value.every(isLogin)) return value;
  throw new TypeError("A realm's logins must be a list of objects with username and password");
}

async function htpasswd(logins: readonly RegistryLogin[]): Promise<string> {
  const lines = logins.map(
    async ({ username, password }) => `${username}:${await hash(password, 4)}\n`,
  );
  return (await Promise.all(lines)).join("");
}

function isLogin(value: unknown): value is RegistryLogin {
  if (typeof value !== "object" || value === null) return false;
  const texts = ["username", "password", "path", "identityToken"] as const;
  const fields: Partial<Record<string, unknown>> = { ...value };
  return texts.every((name, position) => {
    const field = fields[name];
    return typeof field === "string" || (field === undefined && position > 1);
  });
}
