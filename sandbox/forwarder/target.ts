/** An address inside the sandbox's network. */
export interface Target {
  host: string;
  port: number;
}

/** @throws {TypeError} if a message is not a target. */
export function parseTarget(value: unknown): Target {
  if (typeof value === "object" && value !== null && "host" in value && "port" in value) {
    const { host, port } = value;
    if (typeof host === "string" && typeof port === "number") return { host, port };
  }
  throw new TypeError(`A target must have a host and a port, not ${JSON.stringify(value)}`);
}
