import type { Descriptor } from "#oci/content.ts";
import { Deadline } from "#async/deadline.ts";
import type { RegistryCall } from "./registry-call.ts";
import { RegistryError } from "./registry-error.ts";
import { StreamDigest } from "./stream-digest.ts";
import type { Answer } from "./answer.ts";
import { OpenedSource, uploadBody } from "./upload-body.ts";

/** How often in a row an upload may break off without getting further. */
const maxBreaks = 5;

/** Longest wait for a registry to forget an upload that will not be finished. */
const cancelTimeoutMs = 5_000;

const octets = { "content-type": "application/octet-stream" };

export interface UploadOptions {
  /** Begins a call: one for the upload, others to tidy up. */
  readonly begin: (signal: AbortSignal) => RegistryCall;
  readonly signal: AbortSignal;
  readonly onProgress: ((sentBytes: number) => void) | undefined;
}

/**
 * Stores a blob: one POST, and one PUT with all of it. If that breaks off, it goes on with a PATCH from
 * where the registry says that it is, or from the beginning if the registry cannot go on.
 *
 * @throws {WrongContentError} if the source's bytes are not those of the descriptor.
 * @throws {RegistryError} if the registry does not take it.
 * @throws what the source throws, if that cannot be tried again.
 */
export async function uploadBlob(
  descriptor: Descriptor,
  open: (fromByte: number) => AsyncIterable<Buffer>,
  options: UploadOptions,
): Promise<void> {
  const upload = new BlobUpload(descriptor, open, options);
  try {
    await upload.run();
  } catch (error) {
    if (!options.signal.aborted) await upload.cancel();
    throw error;
  }
}

class BlobUpload {
  readonly #descriptor: Descriptor;
  readonly #open: (fromByte: number) => AsyncIterable<Buffer>;
  readonly #options: UploadOptions;
  readonly #call: RegistryCall;
  readonly #digest: StreamDigest;
  /** Where it goes on, and how much the registry has; none before it has begun. */
  #session: { readonly url: URL; readonly offset: number } | undefined;

  constructor(
    descriptor: Descriptor,
    open: (fromByte: number) => AsyncIterable<Buffer>,
    options: UploadOptions,
  ) {
    this.#descriptor = descriptor;
    this.#open = open;
    this.#options = options;
    this.#call = options.begin(options.signal);
    this.#digest = new StreamDigest(descriptor.digest);
  }

  async run(): Promise<void> {
    for (let breaks = 0; ;) {
      const before = this.#session?.offset ?? 0;
      try {
        return await this.#attempt();
      } catch (error) {
        this.#options.signal.throwIfAborted();
        const cause = error instanceof SourceFault ? error.cause : error;
        if (!canGoOn(error) || ++breaks > maxBreaks) throw cause;
        await this.#call.pause(breaks);
      }
      // The registry may have all of it, and only its answer was lost.
      if (await isThere(this.#call, this.#descriptor.digest)) return;
      this.#session = await this.#findSession();
      if ((this.#session?.offset ?? 0) > before) breaks = 0;
    }
  }

  /** Tells the registry that it need not keep what it has. Nothing depends on it. */
  async cancel(): Promise<void> {
    const session = this.#session;
    if (!session) return;
    using deadline = new Deadline(cancelTimeoutMs, this.#options.signal);
    const call = this.#options.begin(deadline.signal);
    await call.ask({ method: "DELETE", url: session.url, limitBytes: 64 * 1024 }).catch(() => {});
  }

  async #attempt(): Promise<void> {
    const { sizeBytes, digest } = this.#descriptor;
    const fromByte = this.#session?.offset ?? 0;
    if (fromByte === sizeBytes && this.#session) return this.#finish(this.#session.url);
    const source = await this.#openSource(fromByte);
    try {
      const { url } = (this.#session ??= await this.#begin());
      const chunks = this.#body(source, fromByte);
      const body = { chunks, sizeBytes: sizeBytes - fromByte };
      if (fromByte === 0) {
        const target = withDigest(url, digest);
        const wanted = { method: "PUT", url: target, headers: octets, body, limitBytes } as const;
        return this.#check(await this.#call.ask(wanted));
      }
      const headers = { ...octets, "content-range": `${fromByte}-${sizeBytes - 1}` };
      const patched = await this.#call.ask({ method: "PATCH", url, headers, body, limitBytes });
      const next = locationOf(patched, url, this.#call);
      this.#session = { url: next, offset: sizeBytes };
      await this.#finish(next);
    } finally {
      await source.return();
    }
  }

  async #begin(): Promise<{ url: URL; offset: number }> {
    const url = this.#call.urlOf("blobs/uploads/");
    const answer = await this.#call.ask({ method: "POST", url, limitBytes });
    return { url: locationOf(answer, url, this.#call), offset: 0 };
  }

  async #finish(upload: URL): Promise<void> {
    const url = withDigest(upload, this.#descriptor.digest);
    const body = { chunks: nothing(), sizeBytes: 0 }; // Waited for as long as one with all of it.
    this.#check(await this.#call.ask({ method: "PUT", url, headers: octets, body, limitBytes }));
  }

  #check({ header }: Answer): void {
    const stated = header("docker-content-digest");
    if (stated === undefined || stated === this.#descriptor.digest) return;
    throw this.#call.badAnswer("stores the blob under another digest");
  }

  async #openSource(fromByte: number): Promise<OpenedSource> {
    this.#digest.rewind(fromByte);
    try {
      return await OpenedSource.open(this.#open(this.#digest.offset));
    } catch (cause) {
      throw new SourceFault(cause);
    }
  }

  async *#body(source: OpenedSource, fromByte: number): AsyncGenerator<Buffer, void> {
    const { onProgress } = this.#options;
    const descriptor = this.#descriptor;
    try {
      yield* uploadBody({ source, descriptor, digest: this.#digest, fromByte, onProgress });
    } catch (cause) {
      throw new SourceFault(cause);
    }
  }

  /** Asks how far the upload is; none if it is to begin anew. */
  async #findSession(): Promise<{ url: URL; offset: number } | undefined> {
    const session = this.#session;
    if (!session) return undefined;
    try {
      const answer = await this.#call.ask({ method: "GET", url: session.url, limitBytes });
      const url = locationOf(answer, session.url, this.#call, session.url);
      const offset = offsetOf(answer);
      if (offset > 0 && offset <= this.#descriptor.sizeBytes) return { url, offset };
    } catch (error) {
      this.#options.signal.throwIfAborted();
      if (!(error instanceof RegistryError)) throw error;
    }
    await this.cancel();
    return undefined;
  }
}

async function* nothing(): AsyncGenerator<Buffer, void> {}

/** Answers to uploads have headers alone; some have a text that nobody needs. */
const limitBytes = 64 * 1024;

/** Whether a repository has a blob. */
export async function isThere(call: RegistryCall, digest: string): Promise<boolean> {
  const url = call.urlOf(`blobs/${digest}`);
  const answer = await call.ask({ method: "HEAD", url, limitBytes: 0, mayBeAbsent: true });
  return answer.status !== 404;
}

/**
 * Where an upload goes on. A registry behind a proxy that ends TLS may write plain HTTP for itself. Nobody else is
 * sent anything without HTTPS, unless it is known to speak that: a registry could have any service of the network
 * asked to store or to delete what it likes.
 *
 * @param fallback - where the answer need not say it.
 */
export function locationOf(
  { header }: Answer,
  asked: URL,
  call: RegistryCall,
  fallback?: URL,
): URL {
  const text = header("location");
  if (text === undefined && fallback) return fallback;
  const url = URL.parse(text ?? "", asked);
  if (text === undefined || !url || !/^https?:$/.test(url.protocol)) {
    throw call.badAnswer("does not say where the upload goes on");
  }
  if (url.username !== "" || url.password !== "") {
    throw call.badAnswer("goes on with the upload at an address with a login");
  }
  if (url.protocol === "https:") return url;
  if (asked.protocol === "https:" && url.host === asked.host) url.protocol = "https:";
  else if (!call.isPlainHttp(url.host)) throw call.notAllowed("its upload goes on without HTTPS");
  return url;
}

/** How many bytes a registry has; `0-0` is what some say of none, so one byte is none. */
function offsetOf({ header }: Answer): number {
  const [, last] = /^(?:bytes=)?0-(\d{1,15})$/.exec(header("range") ?? "") ?? [];
  return last === undefined || last === "0" ? 0 : Number(last) + 1;
}

function withDigest(upload: URL, digest: string): URL {
  const url = new URL(upload);
  url.searchParams.set("digest", digest);
  return url;
}

/** It was the source that failed, and not the registry. */
class SourceFault extends Error {
  override readonly name = "SourceFault";

  constructor(cause: unknown) {
    super("The source of an upload failed", { cause });
  }
}

function canGoOn(error: unknown): boolean {
  if (error instanceof SourceFault) {
    const { cause } = error;
    return cause instanceof Error && "retryable" in cause && cause.retryable === true;
  }
  if (!(error instanceof RegistryError)) return false;
  // The registry has forgotten the upload, or does not know any more how far it is.
  return error.retryable || [400, 404, 416].includes(error.status ?? 0);
}
