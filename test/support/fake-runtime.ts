import { createHash } from "node:crypto";
import { EventEmitter, on } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { ImageCreate, ImageDelete, ImageUpdate } from "#cri/gen/events/image.ts";
import { Envelope } from "#cri/gen/types/event.ts";
import { Status } from "#cri/gen/services/content/v1/content.ts";
import { Image, type AuthConfig, type PullImageRequest } from "#cri/gen/runtime/v1/api.ts";
import { criNamespace, type ImageEvent } from "#cri/image-events.ts";
import { RpcError, type RpcCode } from "#cri/rpc-error.ts";
import { runtimeMethods } from "#cri/runtime-methods.ts";
import { GrpcServer } from "./fake-runtime-server.ts";

/** An image that the fake's registry serves. Two names with one digest are one image. */
interface Offer {
  digest: string;
  sizeBytes: number;
}

/** What happens to pulls of one reference instead of their success. */
type Behaviour =
  | { kind: "fail"; code: RpcCode; message: string }
  | { kind: "slow"; delayMs: number }
  | { kind: "held"; released: Promise<void>; reach: () => void };

/** One PullImage call, as it came. */
export interface SeenPull {
  reference: string;
  auth: AuthConfig | undefined;
}

/** Pulls that wait. Releasing, or leaving the scope, lets them and all later ones go on. */
export interface Hold extends Disposable {
  release(): void;
  /** Resolves when the first pull has come to wait. */
  readonly reached: Promise<void>;
}

export interface FakeRuntimeOptions {
  name?: string;
  version?: string;
  /** False for a runtime without containerd's events and content. */
  isContainerd?: boolean;
}

/**
 * A container runtime on a real Unix socket: containerd's CRI images and events, without bits.
 *
 * It pulls what was offered (by {@link offer}) and nothing else, and then behaves as containerd
 * 2.4 does: an image has an id, tags and digests; a pull by digest leaves no tag; removing by one
 * name removes the image with all its names; each name that appears or goes is an event.
 */
export class FakeRuntime implements AsyncDisposable {
  readonly socketPath: string;
  /** Every pull that was asked for, in order. */
  readonly pulls: SeenPull[] = [];
  readonly #folder: string;
  readonly #server: GrpcServer;
  readonly #offers = new Map<string, Offer>();
  readonly #behaviours = new Map<string, Behaviour>();
  readonly #images = new Map<string, Image>();
  readonly #events = new EventEmitter<{ image: [ImageEvent] }>();
  readonly #version: { name: string; version: string };
  readonly #ingests = new Map<string, number>();
  readonly #blobs = new Map<string, Buffer>();
  readonly #subscribed = new Set<AbortSignal>();

  private constructor({
    name = "containerd",
    version = "v2.4.2",
    isContainerd = true,
  }: FakeRuntimeOptions) {
    this.#folder = mkdtempSync(join(tmpdir(), "coral-cri-"));
    this.socketPath = join(this.#folder, "cri.sock");
    this.#version = { name, version };
    this.#server = new GrpcServer(this.socketPath);
    this.#register(isContainerd);
  }

  static async start(options: FakeRuntimeOptions = {}): Promise<FakeRuntime> {
    const runtime = new FakeRuntime(options);
    await runtime.#server.start();
    return runtime;
  }

  /**
   * Makes a reference pullable, and the same repository with the digest too.
   *
   * @param digest - of the manifest; without it each reference has an image of its own, and one with
   * a digest has that.
   */
  offer(
    reference: string,
    {
      digest = reference.split("@")[1] ?? digestOf(reference),
      sizeBytes = 1000,
    }: Partial<Offer> = {},
  ): this {
    this.#offers.set(reference, { digest, sizeBytes });
    this.#offers.set(`${nameOf(reference)}@${digest}`, { digest, sizeBytes });
    return this;
  }

  /** Ends pulls of a reference with a status, until {@link succeed}. */
  fail(reference: string, code: RpcCode, message: string): this {
    this.#behaviours.set(reference, { kind: "fail", code, message });
    return this;
  }

  /** Makes each pull of a reference take a time, in milliseconds. */
  slow(reference: string, delayMs: number): this {
    this.#behaviours.set(reference, { kind: "slow", delayMs });
    return this;
  }

  /** Takes back what was said about pulls of a reference. */
  succeed(reference: string): this {
    this.#behaviours.delete(reference);
    return this;
  }

  /** Makes pulls of a reference wait until released. */
  hold(reference: string): Hold {
    const { promise: released, resolve } = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    const behaviour: Behaviour = { kind: "held", released, reach: reached.resolve };
    this.#behaviours.set(reference, behaviour);
    const release = (): void => {
      if (this.#behaviours.get(reference) === behaviour) this.#behaviours.delete(reference);
      resolve();
    };
    return { release, reached: reached.promise, [Symbol.dispose]: release };
  }

  /** Shows a download at `offsetBytes`, or none any more. */
  ingest(ref: string, offsetBytes: number | undefined): this {
    if (offsetBytes === undefined) this.#ingests.delete(ref);
    else this.#ingests.set(ref, offsetBytes);
    return this;
  }

  /** Names with a tag of all images, sorted. */
  get tags(): string[] {
    return [...this.#images.values()].flatMap(({ repoTags }) => repoTags).sort();
  }

  /** How many clients listen to events now. */
  get subscribers(): number {
    return this.#subscribed.size;
  }

  /** Removes an image with all its names, as a person with crictl or the kubelet does. */
  remove(reference: string): void {
    const image = this.#find(reference);
    if (!image) return;
    this.#images.delete(image.id);
    for (const name of [...image.repoTags, ...image.repoDigests, image.id]) {
      this.#events.emit("image", { type: "delete", name });
    }
  }

  /** Goes away, as a killed runtime does. Its images stay. */
  async stop(): Promise<void> {
    await this.#server.stop();
  }

  /** Comes back after {@link stop}, with the images it had. */
  async startAgain(): Promise<void> {
    await this.#server.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #register(isContainerd: boolean): void {
    const server = this.#server;
    server.unary(runtimeMethods.version, async () => ({
      version: "0.1.0",
      runtimeName: this.#version.name,
      runtimeVersion: this.#version.version,
      runtimeApiVersion: "v1",
    }));
    server.unary(runtimeMethods.listImages, async () => ({ images: [...this.#images.values()] }));
    server.unary(runtimeMethods.imageStatus, async ({ image }) => ({
      image: this.#find(image?.image ?? ""),
      info: {},
    }));
    server.unary(runtimeMethods.pullImage, (request, signal) => this.#pull(request, signal));
    server.unary(runtimeMethods.removeImage, async ({ image }) => {
      this.remove(image?.image ?? "");
      return {};
    });
    server.unary(runtimeMethods.imageFsInfo, async () => {
      const usedBytes = [...this.#images.values()].reduce((sum, { size }) => sum + size, 0n);
      const filesystem = {
        timestamp: BigInt(Date.now()) * 1_000_000n,
        fsId: { mountpoint: this.#folder },
        usedBytes: { value: usedBytes },
        inodesUsed: { value: BigInt(this.#images.size) },
      };
      return { imageFilesystems: [filesystem], containerFilesystems: [] };
    });
    if (!isContainerd) return;
    server.stream(runtimeMethods.subscribe, (_request, signal) => this.#subscribe(signal));
    server.unary(runtimeMethods.listStatuses, async () => ({
      statuses: [...this.#ingests].map(([ref, offset]) =>
        Status.create({ ref, offset: BigInt(offset) }),
      ),
    }));
    server.unary(runtimeMethods.readContent, async ({ digest }) => {
      const data = this.#blobs.get(digest);
      if (!data) throw new RpcError("NOT_FOUND", `content ${digest}: not found`);
      return { offset: 0n, data };
    });
  }

  async #pull(
    { image, auth }: PullImageRequest,
    signal: AbortSignal,
  ): Promise<{ imageRef: string }> {
    const reference = image?.image ?? "";
    this.pulls.push({ reference, auth });
    await this.#behave(reference, signal);
    signal.throwIfAborted();
    const offer = this.#offers.get(reference);
    if (!offer) {
      const text = `failed to pull and unpack image "${reference}": failed to resolve image: ${reference}: not found`;
      throw new RpcError("NOT_FOUND", text);
    }
    return { imageRef: this.#add(reference, offer) };
  }

  async #behave(reference: string, signal: AbortSignal): Promise<void> {
    const behaviour = this.#behaviours.get(reference);
    if (!behaviour) return;
    switch (behaviour.kind) {
      case "fail":
        throw new RpcError(behaviour.code, behaviour.message);
      case "slow":
        await sleep(behaviour.delayMs, undefined, { signal });
        return;
      case "held":
        behaviour.reach();
        await unlessAborted(behaviour.released, signal);
        return;
      default:
        behaviour satisfies never;
    }
  }

  /** Records the names of a pulled image, each new one as an event. Returns the image's id. */
  #add(reference: string, { digest, sizeBytes }: Offer): string {
    const id = digestOf(`config of ${digest}`);
    const isNew = !this.#images.has(id);
    const image =
      this.#images.get(id) ?? Image.create({ id, size: BigInt(sizeBytes), username: "" });
    this.#images.set(id, image);
    const manifest = { schemaVersion: 2, config: { digest: id }, layers: [] };
    this.#blobs.set(digest, Buffer.from(JSON.stringify(manifest)));
    const tags = reference.includes("@") ? [] : [reference];
    const names = [...tags, ...(isNew ? [id] : []), `${nameOf(reference)}@${digest}`];
    for (const name of names) {
      const known = name.includes("@") ? image.repoDigests : image.repoTags;
      if (known.includes(name)) continue;
      if (name !== id) known.push(name);
      this.#events.emit("image", { type: "create", name });
    }
    return id;
  }

  #find(reference: string): Image | undefined {
    return [...this.#images.values()].find(
      ({ id, repoTags, repoDigests }) =>
        id === reference || repoTags.includes(reference) || repoDigests.includes(reference),
    );
  }

  async *#subscribe(signal: AbortSignal): AsyncGenerator<Envelope> {
    this.#subscribed.add(signal);
    try {
      for await (const [event] of on(this.#events, "image", { signal })) yield envelope(event);
    } finally {
      this.#subscribed.delete(signal);
    }
  }
}

async function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  await Promise.race([work, promise]);
}

function envelope({ type, name }: ImageEvent): Envelope {
  const kind = { create: "ImageCreate", update: "ImageUpdate", delete: "ImageDelete" }[type];
  return Envelope.create({
    namespace: criNamespace,
    topic: `/images/${type}`,
    event: { typeUrl: `containerd.services.images.v1.${kind}`, value: encodeEvent(type, name) },
  });
}

function encodeEvent(type: ImageEvent["type"], name: string): Buffer {
  switch (type) {
    case "create":
      return Buffer.from(ImageCreate.encode({ name, labels: {} }).finish());
    case "update":
      return Buffer.from(ImageUpdate.encode({ name, labels: {} }).finish());
    case "delete":
      return Buffer.from(ImageDelete.encode({ name }).finish());
    default:
      return type satisfies never;
  }
}

/** Name without tag and digest. */
function nameOf(reference: string): string {
  return reference.replace(/@.*$/u, "").replace(/:[^:/]*$/u, "");
}

function digestOf(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}
