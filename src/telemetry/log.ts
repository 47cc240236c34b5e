const levels = ["error", "warn", "info", "debug"] as const;

/** What a line means: a person should look, degraded and coping, something changed, the rest. */
export type LogLevel = (typeof levels)[number];

/** What a line is about. The named keys are spelled here once, so that one query finds them all. */
export interface LogFields {
  controller?: string | undefined;
  kind?: string | undefined;
  namespace?: string | undefined;
  name?: string | undefined;
  node?: string | undefined;
  image?: string | undefined;
  digest?: string | undefined;
  registry?: string | undefined;
  reconcileId?: string | undefined;
  attempt?: number | undefined;
  durationSeconds?: number | undefined;
  sizeBytes?: number | undefined;
  error?: unknown;
  [field: string]: unknown;
}

/**
 * Receives what a process has to say. Messages are constant and lower-case; what varies is a field.
 * Never throws, and never gets a credential.
 */
export interface Log {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  /** Returns a log that adds `fields` to each line. */
  child(fields: LogFields): Log;
}

/** Tells nothing to anybody. */
export const silentLog: Log = {
  error() {},
  warn() {},
  info() {},
  debug() {},
  child: () => silentLog,
};

export interface JsonLogOptions {
  /** The least severe level that is written. */
  level: LogLevel;
  /** Takes one line with its newline. */
  write: (line: string) => void;
  now?: () => Date;
}

/**
 * Writes JSON lines: `time`, `level` and `message` first, then the fields.
 *
 * An Error becomes its name, message, code and causes, with the stack at level `error` only, in at
 * most 4 KiB.
 */
export function jsonLog({ level, write, now = () => new Date() }: JsonLogOptions): Log {
  const chosen = levels.indexOf(level);

  function logWith(context: LogFields): Log {
    const writer = (level: LogLevel) => (message: string, fields?: LogFields) => {
      if (levels.indexOf(level) > chosen) return;
      const head = { time: now().toISOString(), level, message };
      // The head is last as well as first: it leads each line, and no field takes its place.
      write(`${toJson({ ...head, ...context, ...fields, ...head }, level === "error")}\n`);
    };
    return {
      error: writer("error"),
      warn: writer("warn"),
      info: writer("info"),
      debug: writer("debug"),
      child: (fields) => logWith({ ...context, ...fields }),
    };
  }

  return logWith({});
}

function toJson(line: { message: string }, withStack: boolean): string {
  try {
    return JSON.stringify(line, (_key, value: unknown) => {
      if (value instanceof Error) return describeError(value, withStack);
      return typeof value === "bigint" ? String(value) : value;
    });
  } catch (error) {
    // A field that refers to itself, or whose toJSON throws, must not take its caller down.
    const { time, level, message } = line as Record<string, unknown>;
    return JSON.stringify({ time, level, message, unwritable: String(error) });
  }
}

const maxErrorBytes = 4_096;
const maxCauses = 5;

interface ErrorDescription {
  name: string;
  message: string;
  code?: string;
  stack?: string;
  causes?: ErrorDescription[];
}

/** Shortens an error's texts until the whole fits. */
function describeError(error: Error, withStack: boolean): ErrorDescription {
  for (let maxChars = 2_048; ; maxChars = Math.floor(maxChars / 2)) {
    const causes = causesOf(error).map((cause) => describeOne(cause, maxChars));
    const description: ErrorDescription = {
      ...describeOne(error, maxChars),
      ...(withStack && error.stack && { stack: shorten(error.stack, maxChars) }),
      ...(causes.length > 0 && { causes }),
    };
    const isSmall = Buffer.byteLength(JSON.stringify(description)) <= maxErrorBytes;
    if (isSmall || maxChars === 0) return description;
  }
}

/** The chain of causes, and what an AggregateError gathered, nearest first. */
function causesOf(error: Error): unknown[] {
  const found: unknown[] = [];
  const next: unknown[] = [error];
  for (let current = next.shift(); current instanceof Error; current = next.shift()) {
    const gathered: unknown[] = current instanceof AggregateError ? current.errors : [];
    for (const cause of [current.cause, ...gathered]) {
      if (cause === undefined || cause === error || found.includes(cause)) continue;
      found.push(cause);
      if (found.length === maxCauses) return found;
      if (cause instanceof Error) next.push(cause);
    }
  }
  return found;
}

function describeOne(error: unknown, maxChars: number): ErrorDescription {
  if (!(error instanceof Error)) {
    return { name: typeof error, message: shorten(String(error), maxChars) };
  }
  const code = "code" in error ? error.code : undefined;
  return {
    name: shorten(error.name, maxChars),
    message: shorten(error.message, maxChars),
    // Node's and Coral's codes are words, gRPC's are numbers.
    ...((typeof code === "string" || typeof code === "number") && {
      code: shorten(String(code), maxChars),
    }),
  };
}

function shorten(text: string, maxChars: number): string {
  return text.length <= maxChars ? text : `${text.slice(0, maxChars)}…`;
}
