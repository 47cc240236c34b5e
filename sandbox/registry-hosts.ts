/** A host of the sandbox's internet, as its nodes and pods see it, and where it really listens. */
export interface UpstreamHost {
  /** Host and port, as in image names. */
  host: string;
  /** Port at the control plane's address where the fault proxy listens. */
  port: number;
  /** Port where the server behind the proxy listens. */
  backendPort: number;
  /** Its daemon. */
  id: string;
}

/** A registry of the sandbox. */
export interface RegistryHost extends UpstreamHost {
  /** The logins that it accepts at the start; without any everybody may do everything. */
  logins?: readonly RegistryLogin[];
  /** Who gives the bearer tokens that it asks for; without it, it takes logins by htpasswd. */
  realm?: UpstreamHost;
}

/** A login at a registry. Its password guards nothing: the registry lives inside a sandbox. */
export interface RegistryLogin {
  username: string;
  password: string;
  /** A token realm gives it the repositories at and below this path alone. */
  path?: string;
  /** What a token realm takes in place of user name and password. */
  identityToken?: string;
}

/** Stands for the internet: open to all. */
export const openRegistry: RegistryHost = {
  id: "registry",
  host: "registry.test:5000",
  port: 5000,
  backendPort: 5001,
};

/** Asks for a login (htpasswd). */
export const privateRegistry = {
  id: "private-registry",
  host: "private.test:5002",
  port: 5002,
  backendPort: 5003,
  logins: [{ username: "coral", password: "reef" }],
} as const satisfies RegistryHost;

/** Gives bearer tokens for the token registry, from another host, as those of the world do. */
export const tokenRealm: UpstreamHost = {
  id: "token-realm",
  host: "auth.token.test:5006",
  port: 5006,
  backendPort: 5007,
};

/** Asks for a bearer token. Each of its logins opens the repositories of its team alone. */
export const tokenRegistry = {
  id: "token-registry",
  host: "token.test:5004",
  port: 5004,
  backendPort: 5005,
  logins: [
    { username: "anna", password: "anemone", path: "team-a", identityToken: "anna-for-ever" },
    { username: "ben", password: "barnacle", path: "team-b" },
  ],
  realm: tokenRealm,
} as const satisfies RegistryHost;

export const registryHosts: readonly RegistryHost[] = [
  openRegistry,
  privateRegistry,
  tokenRegistry,
];

/** All that the proxy stands before. */
export const upstreamHosts: readonly UpstreamHost[] = [...registryHosts, tokenRealm];

/** The names of these hosts, without ports: all are at the control plane's address. */
export const upstreamNames: readonly string[] = upstreamHosts.map(
  ({ host }) => host.split(":")[0] ?? host,
);
