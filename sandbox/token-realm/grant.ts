import type { RegistryLogin } from "#sandbox/registry-hosts.ts";
import type { SentLogin } from "#sandbox/upstream/login.ts";

/** What somebody may do with a thing at a registry, as in a token's claim `access`. */
export interface Access {
  type: string;
  name: string;
  actions: readonly string[];
}

/** Parses a scope: `repository:a/b:pull,push repository:c:pull`. Malformed parts are left out. */
export function parseScope(scope: string): Access[] {
  return scope.split(" ").flatMap((part) => {
    const [, type, name, actions] = /^([a-z]+):(.+):([a-z*,]+)$/.exec(part) ?? [];
    return type && name && actions ? [{ type, name, actions: actions.split(",") }] : [];
  });
}

/** Finds whose login was sent; `undefined` if it is nobody's. */
export function findLogin(
  sent: SentLogin,
  logins: readonly RegistryLogin[],
): RegistryLogin | undefined {
  return logins.find(({ username, password, identityToken }) =>
    sent.scheme === "refresh_token"
      ? sent.secret === identityToken
      : sent.username === username && sent.secret === password,
  );
}

/** The part of what is asked for that a login may have: to pull, at and below its path. */
export function grantedAccess(asked: readonly Access[], { path }: RegistryLogin): Access[] {
  return asked
    .filter(({ type, name }) => type === "repository" && isBelow(name, path))
    .map((access) => ({
      ...access,
      actions: access.actions.filter((action) => action === "pull"),
    }));
}

function isBelow(name: string, path: string | undefined): boolean {
  return path === undefined || name === path || name.startsWith(`${path}/`);
}
