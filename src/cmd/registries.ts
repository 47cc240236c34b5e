import { isIPv4, isIPv6 } from "node:net";

import { ConfigError, duration, list, optional, text, type ConfigOf } from "#config/settings.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { CredentialProviders } from "#remote/credential-providers.ts";
import { ProviderConfigError, readProviders } from "#remote/provider-config.ts";
import { parseProxies, type ProxySettings } from "#remote/proxy.ts";
import type { ProcessInput } from "./role.ts";

/** What an operator can set of every role that asks registries. */
export const registrySettings = {
  plainHttpRegistries: list({
    env: "CORAL_PLAIN_HTTP_REGISTRIES",
    items: "hosts, with a port if they have one",
    accepts: isHost,
    default: [],
    help: "Registries (host[:port]) that speak HTTP without TLS. It concerns what this role asks; what nodes do is up to their runtime.",
  }),
  deniedNetworks: list({
    env: "CORAL_DENIED_NETWORKS",
    items: "networks like 10.0.0.0/8",
    accepts: isNetwork,
    default: [],
    help: "Networks (CIDR) in which no registry is asked, besides loopback, link-local and metadata addresses, which never are.",
  }),
  credentialProviderConfig: optional(
    text({
      env: "CORAL_CREDENTIAL_PROVIDER_CONFIG",
      help: "File with the kubelet's `CredentialProviderConfig`: programs that give logins to registries. Read once, at the start.",
    }),
  ),
  credentialProviderFolder: optional(
    text({
      env: "CORAL_CREDENTIAL_PROVIDER_BIN_DIR",
      help: "Folder with these programs. Both are set, or neither.",
    }),
  ),
  credentialProviderTimeoutMs: duration({
    env: "CORAL_CREDENTIAL_PROVIDER_TIMEOUT",
    minMs: 1_000,
    default: 60_000,
    help: "Longest run of such a program.",
  }),
};

export type RegistryConfig = ConfigOf<typeof registrySettings>;

/**
 * Reads the operator's credential providers; there may be none.
 *
 * @throws {ConfigError} if only half of it is set, the file is no such configuration, or a program is missing.
 */
export async function openProviders(
  config: RegistryConfig,
  { env, ...deps }: { env: ProcessInput["env"]; log: Log; metrics: Registry },
): Promise<CredentialProviders> {
  const files = providerFiles(config);
  return new CredentialProviders({
    providers: files ? await readFiles(files) : [],
    folder: files?.folder ?? "",
    environment: env,
    timeoutMs: config.credentialProviderTimeoutMs,
    ...deps,
  });
}

async function readFiles(
  files: Parameters<typeof readProviders>[0],
): ReturnType<typeof readProviders> {
  try {
    return await readProviders(files);
  } catch (error) {
    if (!(error instanceof ProviderConfigError)) throw error;
    throw new ConfigError(error.message, { cause: error });
  }
}

/**
 * Reads through which proxies registries are asked: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`. There may
 * be none.
 *
 * @throws {ConfigError} if one is no address of a proxy.
 */
export function proxiesOf(env: ProcessInput["env"]): ProxySettings | undefined {
  try {
    return parseProxies(env);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new ConfigError(error.message, { cause: error });
  }
}

/**
 * Where the operator's credential providers are, if there are any.
 *
 * @throws {ConfigError} if only half of it is set.
 */
export function providerFiles({
  credentialProviderConfig: file,
  credentialProviderFolder: folder,
}: Pick<RegistryConfig, "credentialProviderConfig" | "credentialProviderFolder">):
  | { file: string; folder: string }
  | undefined {
  if (file !== undefined && folder !== undefined) return { file, folder };
  if (file === undefined && folder === undefined) return undefined;
  const { credentialProviderConfig, credentialProviderFolder } = registrySettings;
  const names = [credentialProviderConfig.env, credentialProviderFolder.env];
  const [set, missing] = file === undefined ? names.toReversed() : names;
  throw new ConfigError(`${missing} is required, because ${set} is set`);
}

/** Whether a text is `host[:port]`. */
export function isHost(text: string): boolean {
  return /^[a-zA-Z0-9.-]+(:[0-9]{1,5})?$/.test(text);
}

function isNetwork(text: string): boolean {
  const [address = "", prefix = "", ...rest] = text.split("/");
  const bits = isIPv4(address) ? 32 : isIPv6(address) ? 128 : -1;
  return rest.length === 0 && /^[0-9]{1,3}$/.test(prefix) && Number(prefix) <= bits;
}
