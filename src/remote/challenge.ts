/** How a server wants to be shown who asks (RFC 9110, 11.3). */
export interface Challenge {
  /** In lower case: `basic`, `bearer`. */
  readonly scheme: string;
  /** Names in lower case; the first of several with one name. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** More of a header than any registry sends. */
const maxHeaderLength = 8_192;

/** A word, and what is given for it if it is a parameter. */
const part = /([\w!#$%&'*+.^`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?/y;

/**
 * Parses a `WWW-Authenticate` header with any number of challenges. What is no challenge is left
 * out: a registry that lists a scheme unknown here may list a known one too.
 */
export function parseChallenges(header: string): Challenge[] {
  const text = header.slice(0, maxHeaderLength);
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  for (let position = 0; position < text.length;) {
    // Apart from the pattern, which would begin anew at each of many commas.
    if (/[\s,]/.test(text.charAt(position))) {
      position++;
      continue;
    }
    part.lastIndex = position;
    const [whole, word = "", quoted, plain] = part.exec(text) ?? [];
    if (whole === undefined) {
      const comma = text.indexOf(",", position + 1);
      position = comma < 0 ? text.length : comma;
      continue;
    }
    position += whole.length;
    const value = quoted?.replace(/\\(.)/g, "$1") ?? plain;
    const name = word.toLowerCase();
    if (value === undefined) challenges.push({ scheme: name, parameters: new Map() });
    else {
      const parameters = challenges.at(-1)?.parameters;
      if (!parameters?.has(name)) parameters?.set(name, value);
    }
  }
  return challenges;
}
