/** One thing an operator can set. `Value` is what the program gets, already in its own units. */
export interface Setting<Value> {
  /** The environment variable. The flag follows from it: `CORAL_CRI_SOCKET` is `--cri-socket`. */
  readonly env: string;
  /** Without it, the setting is required. */
  readonly default?: Value;
  readonly help: string;
  /** What a text must be, to stand after it: `must be …`. Also for the reference page. */
  readonly expects: string;
  /** Reads a text, or returns undefined if it is not what is expected. */
  parse(text: string): Value | undefined;
  /** Writes a value as an operator would. The inverse of `parse`. */
  format(value: Value): string;
}

/** A role's settings by the names the program uses. */
export type Settings = Readonly<Record<string, Setting<unknown>>>;

export type ConfigOf<Table> = {
  readonly [Name in keyof Table]: Table[Name] extends Setting<infer Value> ? Value : never;
};

/** What an operator set cannot be used. The message has a line for each problem. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly code = "CONFIG_INVALID";
  readonly retryable = false;
}

/** Names a setting's flag: `--cri-socket`. */
export function flagOf({ env }: Setting<unknown>): string {
  return `--${env
    .replace(/^CORAL_/, "")
    .toLowerCase()
    .replaceAll("_", "-")}`;
}

/**
 * Reads every setting, or reports everything that is wrong at once.
 *
 * A flag (`--cri-socket=/run/x.sock`, or `--debug` for `--debug=true`) goes before the variable.
 * An empty variable counts as not set, since manifests cannot easily leave one out.
 *
 * @param argv - the flags alone, without the program and its subcommand.
 * @throws {ConfigError} listing each missing, malformed or unknown setting on a line of its own.
 */
export function readConfig<Table extends Settings>(
  settings: Table,
  env: Readonly<Record<string, string | undefined>>,
  argv: readonly string[] = [],
): ConfigOf<Table> {
  const known = new Set(Object.values(settings).map(flagOf));
  const flags = new Map<string, string>();
  const problems: string[] = [];
  for (const argument of argv) {
    const [, flag = argument, value = "true"] = /^(--[^=]+)(?:=(.*))?$/s.exec(argument) ?? [];
    if (known.has(flag)) flags.set(flag, value);
    else problems.push(`${flag} is unknown: the flags are ${[...known].sort().join(" ")}`);
  }

  const entries = Object.entries(settings).map(([name, setting]) => {
    const flag = flagOf(setting);
    const fromFlag = flags.get(flag);
    const text = fromFlag ?? (env[setting.env] || undefined);
    if (text === undefined) {
      if (!("default" in setting)) problems.push(`${setting.env} is required: ${setting.help}`);
      return [name, setting.default];
    }
    const value = setting.parse(text);
    if (value === undefined) {
      const source = fromFlag === undefined ? setting.env : flag;
      problems.push(`${source}=${JSON.stringify(text)}: ${setting.expects}`);
    }
    return [name, value];
  });
  if (problems.length > 0) throw new ConfigError(problems.join("\n"));
  return Object.freeze(Object.fromEntries(entries));
}

type Declared<Value> = Omit<Setting<Value>, "parse" | "format" | "expects">;

/** Lets a setting be left out, which is then undefined. */
export function optional<Value>(setting: Setting<Value>): Setting<Value | undefined> {
  return {
    ...setting,
    default: undefined,
    format: (value) => (value === undefined ? "" : setting.format(value)),
  };
}

/** Any text. Secrets come as paths of files, never as values. */
export function text(setting: Declared<string>): Setting<string> {
  return { ...setting, expects: "must be a text", parse: (value) => value, format: String };
}

/** One of a few words. */
export function choice<const Word extends string>(
  setting: Declared<NoInfer<Word>> & { of: readonly Word[] },
): Setting<Word> {
  const { of, ...declared } = setting;
  return {
    ...declared,
    expects: `must be one of ${of.map((word) => JSON.stringify(word)).join(", ")}`,
    parse: (value) => of.find((word) => word === value),
    format: String,
  };
}

/** A list with commas, each item of which `accepts` takes. `items` names them: `must be …, separated by commas`. */
export function list(
  setting: Declared<readonly string[]> & { items: string; accepts: (item: string) => boolean },
): Setting<readonly string[]> {
  const { items, accepts, ...declared } = setting;
  return {
    ...declared,
    expects: `must be ${items}, separated by commas`,
    parse(value) {
      const parts = value.split(",").map((part) => part.trim());
      const given = parts.filter((part) => part !== "");
      return given.every(accepts) ? given : undefined;
    },
    format: (value) => value.join(","),
  };
}

/** A switch. */
export function boolean(setting: Declared<boolean>): Setting<boolean> {
  return {
    ...setting,
    expects: "must be true or false",
    parse: (value) => (value === "true" || value === "false" ? value === "true" : undefined),
    format: String,
  };
}

/** A whole number of at least `min`, and at most `max` if that is given. */
export function integer(
  setting: Declared<number> & { min: number; max?: number },
): Setting<number> {
  const { min, max, ...declared } = setting;
  return {
    ...declared,
    expects:
      max === undefined
        ? `must be a whole number of at least ${min}`
        : `must be a whole number from ${min} to ${max}`,
    parse(value) {
      if (!/^-?\d{1,15}$/.test(value)) return undefined;
      const number = Number(value);
      return number >= min && number <= (max ?? Infinity) ? number : undefined;
    },
    format: String,
  };
}

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const;

type DurationUnit = keyof typeof unitMs;

/** From the longest, for `format` to take the first that divides a value. */
const units: readonly DurationUnit[] = ["h", "m", "s", "ms"];

/** The longest that a timer of Node's can wait, a little under 25 days. */
const longestMs = 2 ** 31 - 1;

/** A duration as operators write it ("90s", "10m"), handed over in milliseconds. */
export function duration(setting: Declared<number> & { minMs?: number }): Setting<number> {
  const { minMs = 0, ...declared } = setting;
  const least = minMs > 0 ? `at least ${minMs / unitMs.s} s and ` : "";
  return {
    ...declared,
    expects: `must be a number with a unit, like "90s" or "10m", of ${least}at most 24 days`,
    parse(value) {
      const [, amount, written] = /^(\d{1,10})(ms|s|m|h)$/.exec(value) ?? [];
      const unit = units.find((candidate) => candidate === written);
      if (amount === undefined || unit === undefined) return undefined;
      const ms = Number(amount) * unitMs[unit];
      return ms >= minMs && ms <= longestMs ? ms : undefined;
    },
    format(ms) {
      const unit = units.find((candidate) => ms > 0 && ms % unitMs[candidate] === 0) ?? "ms";
      return `${ms / unitMs[unit]}${unit}`;
    },
  };
}
