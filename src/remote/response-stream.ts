import { addAbortListener } from "node:events";

import type { Dispatcher } from "undici";

/** Kept of a body that arrives faster than it is read. */
const maxQueuedBytes = 1 << 20;

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** An answer as it arrives: undici tells it, and its reader takes what there is. */
export class ResponseStream implements Dispatcher.DispatchHandler {
  readonly #head = Promise.withResolvers<{ status: number; headers: Headers }>();
  #controller: Dispatcher.DispatchController | undefined;
  #chunks: Buffer[] = [];
  #queuedBytes = 0;
  #isPaused = false;
  #hasEnded = false;
  #fault: { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor() {
    this.#head.promise.catch(() => {}); // Whoever is closed before asks for it no more.
  }

  /** Waits for status and headers. Aborting closes it. */
  async head(signal: AbortSignal): Promise<{ status: number; headers: Headers }> {
    using _ = addAbortListener(signal, () => this.close(signal.reason));
    return await this.#head.promise;
  }

  /** Takes what has arrived, or waits for it; `undefined` at the end. */
  async take(): Promise<Buffer[] | undefined> {
    while (this.#chunks.length === 0 && !this.#hasEnded && !this.#fault) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    if (this.#chunks.length > 0) {
      const chunks = this.#chunks;
      this.#chunks = [];
      this.#queuedBytes = 0;
      if (this.#isPaused) {
        this.#isPaused = false;
        this.#controller?.resume();
      }
      return chunks;
    }
    if (this.#fault) throw this.#fault.error;
    return undefined;
  }

  /** Yields all that arrives. Leaving the loop closes it, and so does aborting. */
  async *chunks(signal: AbortSignal): AsyncGenerator<Buffer, void> {
    using _ = addAbortListener(signal, () => this.close(signal.reason));
    try {
      for (let chunks = await this.take(); chunks; chunks = await this.take()) {
        for (const chunk of chunks) yield chunk;
      }
    } finally {
      this.close();
    }
  }

  /** Breaks off what has not ended, and with it the connection. */
  close(reason: unknown = new Error("The answer is not wanted any more")): void {
    if (this.#hasEnded || this.#fault) return;
    this.#fail(reason);
    this.#controller?.abort(reason instanceof Error ? reason : new Error("Aborted"));
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#fault) controller.abort(new Error("Aborted"));
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: Headers): void {
    if (status >= 200) this.#head.resolve({ status, headers });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#queuedBytes += chunk.length;
    if (this.#queuedBytes >= maxQueuedBytes && !this.#isPaused) {
      this.#isPaused = true;
      controller.pause();
    }
    this.#wakeUp();
  }

  onResponseEnd(): void {
    this.#hasEnded = true;
    this.#wakeUp();
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#fail(error);
  }

  #fail(error: unknown): void {
    if (this.#fault || this.#hasEnded) return;
    this.#fault = { error };
    this.#head.reject(error);
    this.#wakeUp();
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
