import { addAbortListener } from "node:events";

/** Aborts a signal with its parent's, or when something that is waited for does not come for so long. */
export class IdleWatch implements Disposable {
  readonly #stop = new AbortController();
  readonly #ms: number;
  readonly #following: Disposable;
  #timer: NodeJS.Timeout | undefined;
  /** How many times `ms` more it waits; 0 while it does not. */
  #rounds = 0;
  #hasPassed = false;

  readonly signal: AbortSignal = this.#stop.signal;

  constructor(ms: number, parent: AbortSignal) {
    this.#ms = ms;
    this.#following = addAbortListener(parent, () => this.#stop.abort(parent.reason));
  }

  /** Whether it was the time that aborted the signal. */
  get hasPassed(): boolean {
    return this.#hasPassed;
  }

  /** Counts the time from now. @param times - how many times as long it may take. */
  begin(times = 1): void {
    this.#rounds = times;
    if (this.#timer) this.#timer.refresh();
    else this.#timer = setTimeout(() => this.#check(), this.#ms);
  }

  /** Counts no time until the next {@link begin}. */
  pause(): void {
    this.#rounds = 0;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#following[Symbol.dispose]();
  }

  #check(): void {
    this.#timer = undefined;
    if (this.#rounds === 0) return;
    if (this.#rounds > 1) return this.begin(this.#rounds - 1);
    this.#hasPassed = true;
    this.#stop.abort(new DOMException("Nothing came for too long", "TimeoutError"));
  }
}

/** A registry may read a large blob once more before it says that it has it. */
const finishTimes = 5;

/**
 * A body on its way to a server, with an eye on whether the server takes it: the time that the body's
 * own source needs does not count.
 */
export class WatchedBody implements AsyncIterable<Buffer> {
  readonly #chunks: AsyncIterable<Buffer>;
  readonly #watch: IdleWatch;

  /** What the source threw, if it did. */
  fault: { readonly error: unknown } | undefined;

  constructor(chunks: AsyncIterable<Buffer>, watch: IdleWatch) {
    this.#chunks = chunks;
    this.#watch = watch;
    watch.begin();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void> {
    this.#watch.pause();
    try {
      for await (const chunk of this.#chunks) {
        this.#watch.begin();
        yield chunk;
        this.#watch.pause();
      }
    } catch (error) {
      this.fault = { error };
      throw error;
    }
    this.#watch.begin(finishTimes);
  }
}
