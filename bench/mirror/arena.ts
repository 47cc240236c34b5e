import { systemClock } from "#async/clock.ts";
import { RegistryClient } from "#remote/registry-client.ts";
import { run } from "#sandbox/command.ts";
import { silentLog } from "#telemetry/log.ts";
import { startDistribution, type Distribution } from "#test/distribution.ts";
import { RecordingProxy } from "#test/recording-proxy.ts";
import { contestantNames, type Contestant, type ContestantName } from "./contestants.ts";
import type { CountedTurn, MeasuredTurn } from "./figures.ts";
import { runMeasured } from "./measured-run.ts";
import { countByMethod, countContentReads } from "./requests.ts";
import { fillRepository, workloads, type Workload, type WorkloadName } from "./workload.ts";

type Scope = { signal: AbortSignal };

export interface ArenaOptions {
  readonly contestants: Readonly<Record<ContestantName, Contestant>>;
  /** For the contestants: a home without settings. */
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

/**
 * The source, and for each contestant and round a target of its own, so that nobody finds what another
 * has brought.
 */
export class Arena implements AsyncDisposable {
  readonly #source: Distribution;
  readonly #options: ArenaOptions;

  private constructor(source: Distribution, options: ArenaOptions) {
    this.#source = source;
    this.#options = options;
  }

  static async start(options: ArenaOptions): Promise<Arena> {
    return new Arena(await startDistribution(undefined, options), options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
  }

  /** Puts a workload into the source. */
  async fill(name: WorkloadName, seed: string): Promise<void> {
    const { signal } = this.#options;
    const { host } = this.#source;
    const workload: Workload = workloads[name];
    await using client = clientOf(host);
    const target = client.repository(`${host}/${workload.repository}`, {
      logins: [],
      actions: "pull,push",
    });
    await fillRepository(target, workload, seed, { signal });
  }

  /** Has all of them copy a workload in turn, and measures it. */
  async *measure(name: WorkloadName): AsyncGenerator<MeasuredTurn, void> {
    const workload: Workload = workloads[name];
    const { signal, env } = this.#options;
    for (const contestant of contestantNames) {
      await using target = await startDistribution(undefined, { signal });
      for (const pass of workload.passes) {
        const errand = { source: this.#source.host, target: target.host };
        const argv = await this.#argvOf(contestant, workload, errand);
        await run(["sync"], { signal, timeoutMs: 5 * 60_000 }); // Nobody pays for another's writes.
        yield { contestant, workload: name, pass, ...(await runMeasured(argv, { env, signal })) };
      }
      await requireAllTags(target.host, workload, { signal });
    }
  }

  /** Has all of them copy a workload in turn, and counts what they ask, by proxies that slow them. */
  async *count(name: WorkloadName): AsyncGenerator<CountedTurn, void> {
    const workload: Workload = workloads[name];
    const { signal, env } = this.#options;
    await using upstream = await RecordingProxy.start(this.#source.host);
    for (const contestant of contestantNames) {
      await using registry = await startDistribution(undefined, { signal });
      await using target = await RecordingProxy.start(registry.host);
      for (const pass of workload.passes) {
        const errand = { source: upstream.host, target: target.host };
        await runMeasured(await this.#argvOf(contestant, workload, errand), { env, signal });
        const asked = upstream.requests.splice(0);
        yield {
          contestant,
          workload: name,
          pass,
          upstream: countByMethod(asked),
          target: countByMethod(target.requests.splice(0)),
          upstreamContentReads: countContentReads(asked),
        };
      }
    }
  }

  async #argvOf(
    contestant: ContestantName,
    { repository }: Workload,
    hosts: { source: string; target: string },
  ): Promise<string[]> {
    return this.#options.contestants[contestant]({ ...hosts, repository });
  }
}

async function requireAllTags(host: string, workload: Workload, { signal }: Scope): Promise<void> {
  await using client = clientOf(host);
  const copied = client.repository(`${host}/${workload.repository}`, { logins: [] });
  const { length } = await Array.fromAsync(copied.tags({ signal }));
  if (length === workload.tags) return;
  throw new Error(`Of ${workload.tags} tags of "${workload.repository}", ${length} were copied`);
}

function clientOf(host: string): RegistryClient {
  return new RegistryClient({
    userAgent: "coral-bench",
    log: silentLog,
    clock: systemClock,
    network: { allows: () => true },
    plainHttp: [host],
  });
}
