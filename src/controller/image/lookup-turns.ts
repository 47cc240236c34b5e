/** Who asks whom. */
export interface Asking {
  readonly host: string;
  readonly namespace: string;
}

/** Requests at the same time to one host, of all namespaces. */
const perHost = 8;

/** Of these, those of one namespace, so that it leaves half to others. */
const perHostAndNamespace = 4;

/** Those of one namespace to all hosts together. */
const perNamespace = 8;

/**
 * Gives turns at registries. What has to wait is called when there is room, one namespace after the
 * other, so that neither a slow registry nor a namespace with many names delays anybody else.
 */
export class LookupTurns {
  readonly #call: (work: string) => void;
  readonly #taken = new Map<string, number>();
  /** What waits, by host and namespace. Whose turn it was last stands last. */
  readonly #waiting = new Map<string, { asking: Asking; work: Set<string> }>();

  /** @param call - is told of work whose turn has come; it should `enter` soon, or `pass`. */
  constructor(call: (work: string) => void) {
    this.#call = call;
  }

  /** @returns the turn, to dispose at its end; `undefined` if the work has to wait, and will be called. */
  enter(work: string, asking: Asking): Disposable | undefined {
    const key = groupOf(asking);
    if (!this.#hasRoom(asking)) {
      const group = this.#waiting.get(key) ?? { asking, work: new Set() };
      group.work.add(work);
      this.#waiting.set(key, group);
      return undefined;
    }
    this.#take(asking, 1);
    return {
      [Symbol.dispose]: () => {
        this.#take(asking, -1);
        this.pass();
      },
    };
  }

  /** Calls whoever is next. For work that was called and no longer wants its turn. */
  pass(): void {
    for (const [key, group] of this.#waiting) {
      if (!this.#hasRoom(group.asking)) continue;
      const [work = ""] = group.work;
      group.work.delete(work);
      this.#waiting.delete(key);
      if (group.work.size > 0) this.#waiting.set(key, group);
      this.#call(work);
      return;
    }
  }

  #hasRoom({ host, namespace }: Asking): boolean {
    const taken = (key: string): number => this.#taken.get(key) ?? 0;
    return (
      taken(`host ${host}`) < perHost &&
      taken(`both ${host} ${namespace}`) < perHostAndNamespace &&
      taken(`namespace ${namespace}`) < perNamespace
    );
  }

  #take({ host, namespace }: Asking, by: 1 | -1): void {
    for (const key of [`host ${host}`, `both ${host} ${namespace}`, `namespace ${namespace}`]) {
      const count = (this.#taken.get(key) ?? 0) + by;
      if (count === 0) this.#taken.delete(key);
      else this.#taken.set(key, count);
    }
  }
}

function groupOf({ host, namespace }: Asking): string {
  return `${host} ${namespace}`;
}
