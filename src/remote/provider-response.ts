import { isJsonObject, parseJson, textOf } from "#json/json.ts";
import { formatReference, type Repository } from "#oci/reference.ts";
import { parseGoDuration } from "./go-duration.ts";
import { parsePlace, passwordLogin, type KeyringEntry } from "./keyring.ts";
import { providerVersion } from "./provider-config.ts";

/** For what else an answer counts besides the image that was asked for. */
export type AnswerScope = "Image" | "Registry" | "Global";

const scopes: readonly AnswerScope[] = ["Image", "Registry", "Global"];

/** What a provider answered. */
export interface ProviderResponse {
  readonly scope: AnswerScope;
  /** How long it counts; `undefined` if it does not say. */
  readonly cacheMs: number | undefined;
  readonly entries: readonly KeyringEntry[];
  /** Logins that cannot be used, for people. Never a text of the answer. */
  readonly problems: readonly string[];
}

/** More logins than this are a mistake. */
const maxEntries = 500;

/** Formats what a provider is asked. Like the kubelet, it names the repository, not the tag. */
export function formatRequest(repository: Repository): string {
  const { registry, path } = repository;
  const image = formatReference({ registry, path });
  return JSON.stringify({
    kind: "CredentialProviderRequest",
    apiVersion: providerVersion,
    image,
  });
}

/**
 * Parses what a provider wrote. One login that cannot be used spoils no other.
 *
 * @returns what was expected, if it is no answer. Never a text of what it wrote.
 */
export function parseResponse(output: string): ProviderResponse | string {
  const response = parseJson(output);
  if (!isJsonObject(response)) return "must write a JSON object";
  if (response["kind"] !== "CredentialProviderResponse") {
    return 'kind must be "CredentialProviderResponse"';
  }
  if (response["apiVersion"] !== providerVersion) return `apiVersion must be "${providerVersion}"`;
  const scope = scopes.find((each) => each === response["cacheKeyType"]);
  if (!scope) return `cacheKeyType must be one of ${scopes.join(", ")}`;
  const duration = response["cacheDuration"] ?? undefined;
  const cacheMs = duration === undefined ? undefined : parseGoDuration(textOf(duration));
  if (duration !== undefined && cacheMs === undefined) {
    return 'cacheDuration must be a duration like "6h0m0s"';
  }
  const auth = response["auth"] ?? {};
  if (!isJsonObject(auth)) return "auth must be an object";
  return { scope, cacheMs, ...parseAuth(Object.entries(auth)) };
}

/** A login is named by its position: its key is free text. */
function parseAuth(
  auths: readonly [string, unknown][],
): Pick<ProviderResponse, "entries" | "problems"> {
  const entries: KeyringEntry[] = [];
  const problems: string[] = [];
  for (const [index, [name, auth]] of auths.slice(0, maxEntries).entries()) {
    const { username, password } = isJsonObject(auth) ? auth : {};
    const place = parsePlace(name);
    const login = passwordLogin(textOf(username), textOf(password));
    if (typeof place === "string") problems.push(`login ${index + 1} ${place}`);
    else if (typeof login === "string") problems.push(`login ${index + 1} ${login}`);
    else entries.push({ ...place, login });
  }
  if (auths.length > maxEntries) problems.push(`must have at most ${maxEntries} logins`);
  return { entries, problems };
}
