import { RegistryError } from "./registry-error.ts";

/** What a server answers, whatever the status. */
export interface Answer {
  readonly status: number;
  /** Its values joined, if a header came more than once. */
  readonly header: (name: string) => string | undefined;
  readonly body: Buffer;
  /** Who answered, after all redirects. */
  readonly url: URL;
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** Makes a reader of headers. */
export function headerReader(headers: Headers): (name: string) => string | undefined {
  return (name) => {
    const value = headers[name];
    return typeof value === "object" ? value.join(", ") : value;
  };
}

/** Reads a body to its end; `undefined` if that is past the limit. */
export async function readBody(
  body: AsyncIterable<Buffer>,
  limitBytes: number,
): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) return undefined; // Leaving the loop closes the connection.
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}

/** Where a redirect leads, if it may lead there. */
export function redirectTarget({ header, url }: Answer, act: string): URL {
  const target = URL.parse(header("location") ?? "", url);
  if (header("location") === undefined || !target || !/^https?:$/.test(target.protocol)) {
    throw new RegistryError("BAD_ANSWER", "it redirects to no HTTP address", { act });
  }
  if (target.username !== "" || target.password !== "") {
    throw new RegistryError("BAD_ANSWER", "it redirects to an address with a login", { act });
  }
  if (url.protocol === "https:" && target.protocol === "http:") {
    throw new RegistryError("NOT_ALLOWED", "it redirects from HTTPS to plain HTTP", { act });
  }
  return target;
}

/** What went wrong, in words that come from this machine alone. */
const faults: ReadonlyMap<unknown, string> = new Map([
  ["ENOTFOUND", "its host name is not known"],
  ["EAI_AGAIN", "its host name cannot be resolved now"],
  ["ECONNREFUSED", "it refuses connections"],
  ["UND_ERR_CONNECT_TIMEOUT", "it takes no connection in time"],
  ["ECONNRESET", "the connection was lost"],
  ["UND_ERR_SOCKET", "the connection was lost"],
]);

/** Says what went wrong with a connection. */
export function faultOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const known = faults.get(code);
  if (known !== undefined) return known;
  return typeof code === "string" ? `the connection failed (${code})` : "the connection failed";
}
