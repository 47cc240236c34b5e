import { hash } from "node:crypto";

import type { Runtime, RuntimeVersion } from "#agent/runtime.ts";
import type { ImageEvent } from "#cri/image-events.ts";
import { PullError, type PullErrorCode } from "#cri/pull-error.ts";
import { RuntimeUnavailableError, UnsupportedError } from "#cri/rpc-error.ts";
import type { PullCredentials, RuntimeImage } from "#cri/runtime-client.ts";
import { formatReference, parseReference } from "#oci/reference.ts";

interface Subscriber {
  notify: () => void;
  fail: (error: Error) => void;
}

/**
 * A container runtime in memory, for thousands of agents in one process. It has containerd's rules:
 * names are normalised, a pull by digest leaves no tag, changes are events. Every image can be
 * pulled unless it is told otherwise.
 */
export class MemoryRuntime implements Runtime {
  /** Every pull that was begun, in order. */
  readonly pulls: string[] = [];
  /** Who each of them was to log in as. */
  readonly users: (string | undefined)[] = [];
  /** How often everything was listed. */
  lists = 0;
  readonly #images = new Map<string, RuntimeImage>();
  /** What the registry has under a tag, if it is said. */
  readonly #served = new Map<string, string>();
  readonly #guarded = new Map<string, string>();
  readonly #failures = new Map<string, PullErrorCode>();
  readonly #held = new Map<string, PromiseWithResolvers<void>>();
  readonly #running = new Set<string>();
  readonly #subscribers = new Set<Subscriber>();
  readonly #hasEvents: boolean;
  #isAway = false;
  #version: RuntimeVersion = { name: "containerd", version: "v2.4.2" };

  constructor({ hasEvents = true }: { hasEvents?: boolean } = {}) {
    this.#hasEvents = hasEvents;
  }

  /** Pulls that run now, sorted. */
  get running(): string[] {
    return [...this.#running].sort();
  }

  /** Has an image from the start. */
  holding(...references: string[]): this {
    for (const reference of references) this.#add(reference);
    return this;
  }

  /** Moves a tag at its registry. What was pulled before stays. */
  serve(reference: string, digest: string): this {
    this.#served.set(reference, digest);
    return this;
  }

  /** Makes the registry deny a reference to everybody but one user. */
  guard(reference: string, user: string): this {
    this.#guarded.set(reference, user);
    return this;
  }

  /** Makes pulls of a reference fail, until told `succeed`. */
  fail(reference: string, code: PullErrorCode): this {
    this.#failures.set(reference, code);
    return this;
  }

  succeed(reference: string): this {
    this.#failures.delete(reference);
    return this;
  }

  /** Makes pulls of a reference last until released. */
  hold(reference: string): this {
    this.#held.set(reference, Promise.withResolvers());
    return this;
  }

  release(reference: string): void {
    this.#held.get(reference)?.resolve();
    this.#held.delete(reference);
  }

  /** Removes an image, as the kubelet's garbage collection does. */
  remove(reference: string): void {
    this.#images.delete(idOf(reference));
    this.#notify();
  }

  /** Goes away: calls fail and events end. */
  lose(): void {
    this.#isAway = true;
    for (const { fail } of this.#subscribers) fail(new RuntimeUnavailableError("gone"));
  }

  /** Comes back, perhaps as another version. */
  comeBack(version: string = this.#version.version): void {
    this.#isAway = false;
    this.#version = { ...this.#version, version };
  }

  async version(): Promise<RuntimeVersion> {
    this.#requireThere();
    return this.#version;
  }

  async listImages(): Promise<RuntimeImage[]> {
    this.#requireThere();
    this.lists++;
    return [...this.#images.values()];
  }

  async imageStatus(reference: string): Promise<RuntimeImage | undefined> {
    this.#requireThere();
    const name = listedName(reference);
    return [...this.#images.values()].find(
      ({ tags, digests }) => tags.includes(name) || digests.includes(name),
    );
  }

  async pull(
    reference: string,
    { credentials, signal }: { credentials?: PullCredentials; signal: AbortSignal },
  ): Promise<string> {
    const user = credentials && "username" in credentials ? credentials.username : undefined;
    this.pulls.push(reference);
    this.users.push(user);
    this.#running.add(reference);
    try {
      await unlessAborted(this.#held.get(reference)?.promise, signal);
      this.#requireThere();
      const guard = this.#guarded.get(reference);
      const isDenied = guard !== undefined && guard !== user;
      const code = isDenied ? "PULL_DENIED" : this.#failures.get(reference);
      if (code) throw new PullError(reference, code, `because of ${code}`, undefined);
      this.#add(reference);
      this.#notify();
      return idOf(reference);
    } finally {
      this.#running.delete(reference);
    }
  }

  async *imageEvents({ signal }: { signal: AbortSignal }): AsyncGenerator<ImageEvent> {
    if (!this.#hasEvents) throw new UnsupportedError("no events");
    this.#requireThere();
    for (;;) {
      const next = Promise.withResolvers<void>();
      const subscriber = { notify: next.resolve, fail: next.reject };
      this.#subscribers.add(subscriber);
      try {
        await unlessAborted(next.promise, signal);
      } finally {
        this.#subscribers.delete(subscriber);
      }
      yield { type: "update", name: "something" };
    }
  }

  #notify(): void {
    for (const { notify } of this.#subscribers) notify();
  }

  #requireThere(): void {
    if (this.#isAway) throw new RuntimeUnavailableError("gone");
  }

  #add(text: string): void {
    const { tag, digest, ...repository } = parseReference(text);
    const listed = digest ?? this.#served.get(text) ?? `sha256:${hash("sha256", text)}`;
    const id = idOf(text);
    const isByTag = tag !== undefined && digest === undefined;
    this.#images.set(id, {
      id,
      tags: isByTag ? [formatReference({ ...repository, tag })] : [],
      digests: [formatReference({ ...repository, digest: listed })],
      sizeBytes: 1_000,
      pinned: false,
    });
  }
}

function listedName(text: string): string {
  const { registry, path, tag, digest } = parseReference(text);
  if (digest !== undefined) return formatReference({ registry, path, digest });
  return formatReference({ registry, path, ...(tag !== undefined && { tag }) });
}

function idOf(reference: string): string {
  return `sha256:${hash("sha256", `config of ${listedName(reference)}`)}`;
}

async function unlessAborted(work: Promise<void> | undefined, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
