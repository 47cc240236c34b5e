/** A password shorter than this could be any word of a message: removing it would hide the meaning. */
const minSecretLength = 4;

// The bounds below keep the time linear in texts that a hostile registry may have chosen.

/** Login part of a URL: everything between its scheme and the last `@` before the path. */
const userInfo = /(\b[a-z][a-z0-9+.-]{0,15}:\/\/)[^\s/?#"'<>]*@/giu;

/** Query and fragment of a URL. Signed blob URLs carry their signature there. */
const query = /(\b[a-z][a-z0-9+.-]{0,15}:\/\/[^\s?#"'<>]{0,2048})[?#][^\s"'<>]*/giu;

/** A query whose URL has no scheme, as in a relative redirect. */
const relativeQuery = /\?[^\s"'<>=?]+=[^\s"'<>]*/gu;

/** The value of an `Authorization` header, should a runtime quote one. */
const authorization = /\b(Bearer|Basic)\s+[A-Za-z0-9+/_.~-]{8,}=*/giu;

/** Control characters and runs of white space: an error is one line in a status or a log. */
const blanks = /[\s\p{Cc}]+/gu;

export interface RedactOptions {
  /** Longest result, in characters. The end of a longer text is kept: Go puts the root cause there. */
  maxLength: number;
  /** Words that must not appear, such as the password that was sent. */
  secrets?: readonly string[];
}

/** Returns a runtime's text as one line without credentials, URL queries and the given secrets. */
export function redact(text: string, { maxLength, secrets = [] }: RedactOptions): string {
  let clean = text;
  for (const secret of secrets) {
    if (secret.length >= minSecretLength) clean = clean.replaceAll(secret, "***");
  }
  clean = clean
    .replace(userInfo, "$1")
    .replace(query, "$1")
    .replace(relativeQuery, "")
    .replace(authorization, "$1 ***")
    .replace(blanks, " ")
    .trim();
  return clean.length <= maxLength ? clean : `…${clean.slice(1 - maxLength)}`;
}
