/** What a shell takes for ended by Ctrl-C, and by `kill`. */
const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

/** Ctrl-C once: what is under way is ended. Twice: Node's own way to end, at once. */
export class Interrupt implements Disposable {
  readonly #stop = new AbortController();
  readonly #say: (line: string) => void;
  #exitCode: number | undefined;

  /** Aborted by the first of them. */
  readonly signal = this.#stop.signal;

  /** @param say - tells the person who waits. */
  constructor(say: (line: string) => void) {
    this.#say = say;
    process.once("SIGINT", this.#onSignal).once("SIGTERM", this.#onSignal);
  }

  /** What the process is to end with, if it was interrupted. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  readonly #onSignal = (name: NodeJS.Signals): void => {
    this.#exitCode = name === "SIGTERM" ? exitCodes.SIGTERM : exitCodes.SIGINT;
    this.#say("stopping: Ctrl-C again ends it at once");
    this.#stop.abort(new Error(`Received ${name}`));
  };

  [Symbol.dispose](): void {
    process.off("SIGINT", this.#onSignal).off("SIGTERM", this.#onSignal);
  }
}
