/** Looks at one thing. Returns what is wrong with it, or undefined if nothing is. */
export type HealthCheck = () => string | undefined;

/** The answer to a probe, with a line for each check. */
export interface HealthReport {
  readonly isOk: boolean;
  /** `[+]name ok` or `[-]name what is wrong`, as Kubernetes' own components write it. */
  readonly lines: readonly string[];
}

/** How long a process is looked at often for becoming ready. */
const startMs = 60_000;

/**
 * Collects what a process's probes ask. It is ready once each readiness check is content and until
 * it is asked to stop, and alive while each liveness check is.
 */
export class Health {
  readonly #live = new Map<string, HealthCheck>();
  readonly #ready = new Map<string, HealthCheck>();
  readonly #uptimeMs: () => number;

  /**
   * @param signal - aborted when the process drains, which takes it out of Services at once.
   * @param uptimeMs - tells for how long the process has run.
   */
  constructor(signal: AbortSignal, uptimeMs: () => number = () => performance.now()) {
    this.#uptimeMs = uptimeMs;
    this.requireForReadiness("draining", () => (signal.aborted ? "asked to stop" : undefined));
  }

  /** Adds something without which the process should get no work. Names are unique. */
  requireForReadiness(name: string, check: HealthCheck): void {
    this.#ready.set(name, check);
  }

  /** Adds something without which the process should be restarted. Names are unique. */
  requireForLiveness(name: string, check: HealthCheck): void {
    this.#live.set(name, check);
  }

  /** Answers a liveness probe. */
  live(): HealthReport {
    return reportOf(this.#live);
  }

  /**
   * Answers a startup probe: content as soon as the process is ready, and anyway after a minute. While
   * it is not, probes may come often; but what a process waits for is no reason to restart it.
   */
  started(): HealthReport {
    const report = this.ready();
    return { ...report, isOk: report.isOk || this.#uptimeMs() >= startMs };
  }

  /** Answers a readiness probe. */
  ready(): HealthReport {
    return reportOf(this.#ready);
  }
}

function reportOf(checks: ReadonlyMap<string, HealthCheck>): HealthReport {
  const results = [...checks].map(([name, check]) => ({ name, problem: check() }));
  return {
    isOk: results.every(({ problem }) => problem === undefined),
    lines: results.map(({ name, problem }) =>
      problem === undefined ? `[+]${name} ok` : `[-]${name} ${problem}`,
    ),
  };
}
