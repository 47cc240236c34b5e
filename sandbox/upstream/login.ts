/** What a request said of who sends it. */
export interface SentLogin {
  /** `basic`, `bearer` or another of the `Authorization` header; `password` or `refresh_token` of a form. */
  scheme: string;
  username?: string;
  /** Password or token, as sent: only the logins of tests are ever sent here. */
  secret: string;
}

/** Reads an `Authorization` header. What cannot be decoded is kept as the secret. */
export function loginOfHeader(authorization: string | undefined): SentLogin | undefined {
  if (authorization === undefined) return undefined;
  const [, scheme = "", secret = ""] = /^(\S*)\s*(.*)$/s.exec(authorization) ?? [];
  if (scheme.toLowerCase() !== "basic") return { scheme: scheme.toLowerCase(), secret };
  const text = Buffer.from(secret, "base64").toString();
  const colon = text.indexOf(":");
  if (colon < 0) return { scheme: "basic", secret };
  return { scheme: "basic", username: text.slice(0, colon), secret: text.slice(colon + 1) };
}

/** Reads the login from the form that an OAuth 2 client posts to a token realm. */
export function loginOfForm(form: URLSearchParams): SentLogin | undefined {
  const scheme = form.get("grant_type");
  if (scheme === "refresh_token") return { scheme, secret: form.get("refresh_token") ?? "" };
  if (scheme !== "password") return undefined;
  return { scheme, username: form.get("username") ?? "", secret: form.get("password") ?? "" };
}
