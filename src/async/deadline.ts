import { addAbortListener } from "node:events";

/**
 * Aborts a signal with its parent's, or when time is up; disposing it takes the timer back.
 *
 * `AbortSignal.timeout` cannot be taken back: joined with a process's long-lived signal it stays
 * for its whole time, and thousands of requests a minute would hold megabytes (measured).
 */
export class Deadline implements Disposable {
  readonly #stop = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #following: Disposable;
  #hasPassed = false;

  readonly signal: AbortSignal = this.#stop.signal;

  constructor(ms: number, parent: AbortSignal) {
    this.#following = addAbortListener(parent, () => this.#stop.abort(parent.reason));
    this.#timer = setTimeout(() => {
      this.#hasPassed = true;
      this.#stop.abort(new DOMException("The operation took too long", "TimeoutError"));
    }, ms);
  }

  /** Whether it was the time that aborted the signal. */
  get hasPassed(): boolean {
    return this.#hasPassed;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#following[Symbol.dispose]();
  }
}
