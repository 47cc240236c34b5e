import type { Runtime, RuntimeVersion } from "#agent/runtime.ts";
import type { Clock } from "#async/clock.ts";
import type { ImageEvent } from "#cri/image-events.ts";
import type { RuntimeImage } from "#cri/runtime-client.ts";
import { formatReference, parseReference } from "#oci/reference.ts";

/** The images that there are at the registry, as every runtime of the process lists them. */
export class Catalogue {
  readonly #images = new Map<string, RuntimeImage>();

  constructor(digests: Readonly<Record<string, string>>) {
    for (const [reference, digest] of Object.entries(digests)) {
      const { registry, path } = parseReference(reference);
      this.#images.set(reference, {
        id: digest,
        tags: [reference],
        digests: [formatReference({ registry, path, digest })],
        sizeBytes: 3_000_000,
        pinned: false,
      });
    }
  }

  /** @throws {RangeError} if there is no image of this name. */
  require(reference: string): RuntimeImage {
    const image = this.#images.get(reference);
    if (!image) throw new RangeError(`Image "${reference}" is not in the catalogue`);
    return image;
  }
}

/**
 * A container runtime that only waits where another would download. All of a process share the
 * objects of their images: a node costs some pointers.
 */
export class SimulatedRuntime implements Runtime {
  readonly #catalogue: Catalogue;
  readonly #pullMs: number;
  readonly #clock: Clock;
  readonly #held = new Map<string, RuntimeImage>();
  readonly #waiting = new Set<() => void>();
  pulls = 0;

  constructor(catalogue: Catalogue, { pullMs, clock }: { pullMs: number; clock: Clock }) {
    this.#catalogue = catalogue;
    this.#pullMs = pullMs;
    this.#clock = clock;
  }

  async version(): Promise<RuntimeVersion> {
    return { name: "containerd", version: "v2.4.2" };
  }

  async listImages(): Promise<RuntimeImage[]> {
    return [...this.#held.values()];
  }

  async imageStatus(reference: string): Promise<RuntimeImage | undefined> {
    return this.#held.get(reference);
  }

  async pull(reference: string, { signal }: { signal: AbortSignal }): Promise<string> {
    const image = this.#catalogue.require(reference);
    this.pulls++;
    // From half the mean to half as much again: agents that began together drift apart.
    await this.#clock.sleep(this.#pullMs * (0.5 + Math.random()), { signal });
    this.#held.set(reference, image);
    for (const notify of this.#waiting) notify();
    return image.id;
  }

  async *imageEvents({ signal }: { signal: AbortSignal }): AsyncGenerator<ImageEvent> {
    for (;;) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const onAbort = (): void => reject(signal.reason);
      signal.throwIfAborted();
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.add(resolve);
      try {
        await promise;
      } finally {
        this.#waiting.delete(resolve);
        signal.removeEventListener("abort", onAbort);
      }
      yield { type: "update", name: "something" };
    }
  }
}
