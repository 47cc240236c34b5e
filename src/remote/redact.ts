/** What an event or a line of a log has room for. */
const maxChars = 300;

/** What is shorter would be found in innocent words. */
const minSecretChars = 4;

const redacted = "[redacted]";

/**
 * Makes one line, fit for a log, of what a program wrote to stderr: the last one that is not empty, without
 * what may be a login.
 *
 * What may be one: the known secrets; what follows a word like `password` or `token`; logins and queries
 * in addresses; and long runs of letters and digits. Short words in plain prose stay.
 *
 * @param secrets - texts that must not stand in the line, however it is written.
 */
export function redactedLine(text: string, secrets: readonly string[] = []): string {
  const lines = text.split(/[\r\n]+/).map((line) => line.trim());
  let line = lines.findLast((each) => each !== "") ?? "";
  for (const secret of secrets.toSorted((a, b) => b.length - a.length)) {
    if (secret.length >= minSecretChars) line = line.replaceAll(secret, redacted);
  }
  line = line
    .replaceAll(/\p{Cc}/gu, " ")
    .replaceAll(/(\/\/)[^\s/@]{1,500}@/g, `$1${redacted}@`)
    .replaceAll(/\?[^\s"']+/g, `?${redacted}`)
    .replaceAll(
      /((?:pass|pwd|secret|token|key|auth|credential|login|user)[a-z_-]{0,20}["']?\s{0,3}[=:]\s{0,3})(?:"[^"]*"?|'[^']*'?|(?:(?:bearer|basic)\s+)?[^\s"',;]+)/gi,
      `$1${redacted}`,
    )
    .replaceAll(/\b(bearer|basic)\s+\S+/gi, `$1 ${redacted}`)
    .replaceAll(/[A-Za-z0-9+/_=-]{16,}/g, (run) => (isWord(run) ? run : redacted));
  return line.length > maxChars ? `${line.slice(0, maxChars)}…` : line;
}

/** Like `AccessDeniedException`: names of errors are the most useful words there are. */
function isWord(run: string): boolean {
  return run.length <= 40 && /^[A-Za-z][a-z]+(?:[A-Z][a-z]+)*$/.test(run);
}
