/** A registry of the sandbox, as its nodes see it, and where it really listens. */
export interface RegistryHost {
  /** Host and port in image names. */
  host: string;
  /** Port at the control plane's address where the fault proxy listens. */
  port: number;
  /** Port where the registry behind the proxy listens. */
  backendPort: number;
  /** Daemon of the registry. */
  id: string;
  /** The one login that it accepts; without it everybody may do everything. */
  login?: { username: string; password: string };
}

/** Stands for the internet: open to all. */
export const openRegistry: RegistryHost = {
  id: "registry",
  host: "registry.test:5000",
  port: 5000,
  backendPort: 5001,
};

/** Asks for a login (htpasswd). The password guards nothing: the registry lives inside a sandbox. */
export const privateRegistry: RegistryHost = {
  id: "private-registry",
  host: "private.test:5002",
  port: 5002,
  backendPort: 5003,
  login: { username: "coral", password: "reef" },
};

export const registryHosts: readonly RegistryHost[] = [openRegistry, privateRegistry];
