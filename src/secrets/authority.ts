/** What a Secret tells of whose certificates to trust. */
export type Authority =
  | { readonly pem: string }
  /** Why there is none, to stand after the Secret's name. Never a text of the Secret. */
  | { readonly problem: string };

/** Where cert-manager and most others put it. */
const dataKey = "ca.crt";

/** Room for about 150 certificates, as many as a system trusts by itself. */
const maxBytes = 256 * 1024;

/** The same in Base64, as it stands in a Secret. */
const maxChars = Math.ceil(maxBytes / 3) * 4;

const tooLarge = `must have at most ${maxBytes} bytes`;

/** Reads the `ca.crt` of a Secret's data, in PEM. Nothing that it may hold makes it throw. */
export function parseAuthority(data: Readonly<Record<string, string>> = {}): Authority {
  const text = data[dataKey];
  if (text === undefined || text === "") return refuse("must not be empty");
  if (text.length > maxChars) return refuse(tooLarge);
  const bytes = Buffer.from(text, "base64");
  if (bytes.length > maxBytes) return refuse(tooLarge);
  const pem = bytes.toString();
  if (!pem.includes("-----BEGIN CERTIFICATE-----")) return refuse("must hold certificates in PEM");
  return { pem };
}

function refuse(why: string): Authority {
  return { problem: `data["${dataKey}"] ${why}` };
}
