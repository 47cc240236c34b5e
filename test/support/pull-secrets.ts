import type { RegistryLogin } from "#sandbox/registry-hosts.ts";

/** What a Secret says for one place: a login, or the identity token of one. */
export type SecretLogin = Pick<RegistryLogin, "username" | "password"> | { identityToken: string };

/** How a Secret is written: both forms of Kubernetes. */
export type SecretForm = "dockerconfigjson" | "dockercfg";

/**
 * A Secret with logins by place, which is a host with or without a path.
 *
 * @param options.form - `dockerconfigjson` if not given.
 */
export function pullSecret(
  key: { namespace: string; name: string },
  logins: Readonly<Record<string, SecretLogin>>,
  { form = "dockerconfigjson" }: { form?: SecretForm } = {},
): unknown {
  const auths = Object.fromEntries(
    Object.entries(logins).map(([place, login]) => [place, authOf(login)]),
  );
  const config = form === "dockercfg" ? auths : { auths };
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: key,
    type: `kubernetes.io/${form}`,
    stringData: { [`.${form}`]: JSON.stringify(config) },
  };
}

/** As `docker login` writes it: with an identity token, user name and password say nothing. */
function authOf(login: SecretLogin): unknown {
  if ("identityToken" in login) {
    return {
      auth: btoa("00000000-0000-0000-0000-000000000000:"),
      identitytoken: login.identityToken,
    };
  }
  return { auth: btoa(`${login.username}:${login.password}`) };
}
