import {
  ImageSpec,
  type AuthConfig,
  type FilesystemUsage,
  type Image,
} from "./gen/runtime/v1/api.ts";
import type { Envelope } from "./gen/types/event.ts";
import { GrpcChannel } from "./grpc-channel.ts";
import {
  criNamespace,
  imageEventFilter,
  parseImageEvent,
  type ImageEvent,
} from "./image-events.ts";
import { PullError } from "./pull-error.ts";
import { RpcError, RuntimeUnavailableError, UnsupportedError } from "./rpc-error.ts";
import { runtimeMethods } from "./runtime-methods.ts";

/** Longest wait for anything but a pull: the kubelet's `runtimeRequestTimeout` by default. */
const callTimeoutMs = 120_000;

/** Where containerd sends what is for Docker Hub. */
const dockerHubHost = "registry-1.docker.io";
const dockerHubNames: readonly string[] = ["docker.io", "index.docker.io", dockerHubHost];

/** What containerd's own services have to be told: whose images are meant. */
const criMetadata = { "containerd-namespace": criNamespace };

/** An image that the runtime has, complete and unpacked. */
export interface RuntimeImage {
  /** The runtime's own name for it: the digest of its configuration in most runtimes. */
  id: string;
  /** Full names with a tag. Empty if it was only ever pulled by digest. */
  tags: string[];
  /** Full names with a digest, without a tag. */
  digests: string[];
  sizeBytes: number;
  /** Whether the kubelet's garbage collection leaves it alone. */
  pinned: boolean;
}

/** A file system that holds images, and what the images use of it. */
export interface ImageFilesystem {
  mountpoint: string;
  usedBytes: number;
  inodesUsed: number;
}

/** A blob that is being downloaded, or whose download was given up and not yet cleared away. */
export interface Ingest {
  /** The runtime's name for it. It ends in the blob's digest: `layer-sha256:…`. */
  ref: string;
  /** How much of it has come. */
  offsetBytes: number;
}

/** A registry login. It is used for the registry it names and no other, mirrors included. */
export type PullCredentials = {
  /** Host, with port if it has one, or a URL: `registry.example:5000`, `https://index.docker.io/v1/`. */
  serverAddress: string;
} & ({ username: string; password: string } | { identityToken: string });

export interface PullOptions {
  /** Login for this pull only; without it the runtime pulls as it is configured. */
  credentials?: PullCredentials;
  /** Longest wait for the whole image, in milliseconds. CRI reports no progress to renew it on. */
  timeoutMs: number;
  signal: AbortSignal;
}

/**
 * The images of a container runtime, over the CRI socket (`runtime.v1`).
 *
 * Every method throws {@link RpcError} if the runtime refuses, `RuntimeUnavailableError` if it
 * cannot be reached or goes away during the call, and the signal's reason if aborted. A call after
 * the runtime's restart connects again by itself.
 *
 * ```ts
 * await using runtime = await RuntimeClient.connect("/run/containerd/containerd.sock", { signal });
 * await runtime.pull("docker.io/library/debian:13", { timeoutMs: 600_000, signal });
 * ```
 */
export class RuntimeClient implements AsyncDisposable {
  readonly #channel: GrpcChannel;

  private constructor(channel: GrpcChannel) {
    this.#channel = channel;
  }

  /** Connects to the runtime that listens on a Unix socket, once it has told its version. */
  static async connect(
    socketPath: string,
    { signal }: { signal: AbortSignal },
  ): Promise<RuntimeClient> {
    const client = new RuntimeClient(new GrpcChannel(socketPath));
    try {
      await client.version({ signal });
      return client;
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Returns the runtime's name and version, such as `containerd` and `v2.4.2`. */
  async version({ signal }: { signal: AbortSignal }): Promise<{ name: string; version: string }> {
    const request = { version: "v1" };
    const options = { timeoutMs: callTimeoutMs, signal };
    const answer = await this.#channel.unary(runtimeMethods.version, request, options);
    return { name: answer.runtimeName, version: answer.runtimeVersion };
  }

  /** Lists every image that the runtime has, in no order. */
  async listImages({ signal }: { signal: AbortSignal }): Promise<RuntimeImage[]> {
    const options = { timeoutMs: callTimeoutMs, signal };
    const { images } = await this.#channel.unary(runtimeMethods.listImages, {}, options);
    return images.map(runtimeImage);
  }

  /**
   * Looks for one image by name or by the runtime's id.
   *
   * @returns `undefined` if the runtime does not have it.
   */
  async imageStatus(
    reference: string,
    { signal }: { signal: AbortSignal },
  ): Promise<RuntimeImage | undefined> {
    const request = { image: ImageSpec.create({ image: reference }), verbose: false };
    const options = { timeoutMs: callTimeoutMs, signal };
    const { image } = await this.#channel.unary(runtimeMethods.imageStatus, request, options);
    return image && runtimeImage(image);
  }

  /**
   * Pulls an image onto this node and waits until it is complete. Repeating a pull is safe.
   *
   * @param reference - full name with registry and tag or digest: `ghcr.io/org/app@sha256:…`.
   * @returns the runtime's own image id, the key for {@link imageStatus}. Not always a digest.
   * @throws {PullError} if the runtime refuses, fails or is not there; its `retryable` says whether
   * to try again.
   * @throws the signal's reason, if aborted. What was downloaded may stay as a start for the next.
   */
  async pull(reference: string, { credentials, timeoutMs, signal }: PullOptions): Promise<string> {
    const request = {
      image: ImageSpec.create({ image: reference }),
      auth: credentials && authConfig(credentials),
      // Never omitted: some runtimes dereference it unchecked (openkruise, imageruntime/cri.go).
      sandboxConfig: { hostname: "", logDirectory: "", labels: {}, annotations: {} },
    };
    try {
      const answer = await this.#channel.unary(runtimeMethods.pullImage, request, {
        timeoutMs,
        signal,
      });
      return answer.imageRef;
    } catch (error) {
      signal.throwIfAborted(); // Being told to stop is not a failed pull.
      throw PullError.from(reference, error, credentials && secretsOf(credentials));
    }
  }

  /**
   * Removes an image. An image that is not there is no error.
   *
   * By one tag CRI removes **every** tag of that image, whatever their repositories.
   */
  async remove(reference: string, { signal }: { signal: AbortSignal }): Promise<void> {
    const request = { image: ImageSpec.create({ image: reference }) };
    await this.#channel.unary(runtimeMethods.removeImage, request, {
      timeoutMs: callTimeoutMs,
      signal,
    });
  }

  /** Returns the file systems that hold images. CRI tells what is used of them, not what is free. */
  async imageFsInfo({ signal }: { signal: AbortSignal }): Promise<ImageFilesystem[]> {
    const options = { timeoutMs: callTimeoutMs, signal };
    const answer = await this.#channel.unary(runtimeMethods.imageFsInfo, {}, options);
    return answer.imageFilesystems.map(imageFilesystem);
  }

  /**
   * Lists the downloads of all pulls, which only containerd offers: through its content service on
   * the same socket, as CRI tells no progress. Unpacking shows nothing here.
   *
   * @throws {UnsupportedError} if the runtime is not containerd.
   */
  async ingests({ signal }: { signal: AbortSignal }): Promise<Ingest[]> {
    const options = { metadata: criMetadata, timeoutMs: callTimeoutMs, signal };
    try {
      const request = { filters: [] };
      const { statuses } = await this.#channel.unary(runtimeMethods.listStatuses, request, options);
      return statuses.map(({ ref, offset }) => ({ ref, offsetBytes: Number(offset) }));
    } catch (error) {
      throw translated(error, "The runtime does not tell what it downloads");
    }
  }

  /**
   * Reads a blob of at most 1 MiB that containerd has, such as a manifest.
   *
   * @returns `undefined` if it is not there, or not yet.
   * @throws {UnsupportedError} if the runtime is not containerd.
   */
  async readBlob(
    digest: string,
    { signal }: { signal: AbortSignal },
  ): Promise<Uint8Array | undefined> {
    const options = { metadata: criMetadata, timeoutMs: callTimeoutMs, signal };
    try {
      // containerd answers in messages of 1 MiB: what fits into one needs no stream.
      const request = { digest, offset: 0n, size: 0n };
      const { data } = await this.#channel.unary(runtimeMethods.readContent, request, options);
      return data;
    } catch (error) {
      if (error instanceof RpcError && error.code === "NOT_FOUND") return undefined;
      throw translated(error, "The runtime shows no blobs");
    }
  }

  /**
   * Subscribes to the changes of image records, which only containerd offers: through its events
   * service on the same socket, as CRI has no image events.
   *
   * The subscription is on its way when this returns, so list the images after calling it and
   * before reading it, to miss nothing. containerd acknowledges no subscription: a change in the
   * first milliseconds can be missed all the same, as can any between two subscriptions. Look at
   * the full list from time to time too.
   *
   * The iteration never ends by itself. It throws `UnsupportedError` if the runtime is not
   * containerd, `RuntimeUnavailableError` when the connection is lost (list and subscribe again),
   * and the signal's reason when aborted.
   */
  imageEvents({ signal }: { signal: AbortSignal }): AsyncIterable<ImageEvent> {
    const request = { filters: [imageEventFilter] };
    const options = { metadata: criMetadata, signal };
    return imageEventsOf(this.#channel.serverStream(runtimeMethods.subscribe, request, options));
  }

  /** Closes the connection. Calls in flight fail. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#channel[Symbol.asyncDispose]();
  }
}

/** Makes an error of its own of what a runtime says to a call that it does not know. */
function translated(error: unknown, message: string): unknown {
  const isUnknown = error instanceof RpcError && error.code === "UNIMPLEMENTED";
  return isUnknown ? new UnsupportedError(message, { cause: error }) : error;
}

async function* imageEventsOf(envelopes: AsyncIterable<Envelope>): AsyncGenerator<ImageEvent> {
  try {
    for await (const envelope of envelopes) {
      const event = parseImageEvent(envelope);
      if (event) yield event;
    }
  } catch (error) {
    throw translated(error, "The runtime has no image events");
  }
  throw new RuntimeUnavailableError("The runtime ended its image events");
}

function runtimeImage({ id, repoTags, repoDigests, size, pinned }: Image): RuntimeImage {
  return { id, tags: repoTags, digests: repoDigests, sizeBytes: Number(size), pinned };
}

function imageFilesystem({ fsId, usedBytes, inodesUsed }: FilesystemUsage): ImageFilesystem {
  return {
    mountpoint: fsId?.mountpoint ?? "",
    usedBytes: Number(usedBytes?.value ?? 0),
    inodesUsed: Number(inodesUsed?.value ?? 0),
  };
}

function authConfig({ serverAddress, ...login }: PullCredentials): AuthConfig {
  const isPassword = "username" in login;
  return {
    serverAddress: serverUrl(serverAddress),
    username: isPassword ? login.username : "",
    password: isPassword ? login.password : "",
    identityToken: isPassword ? "" : login.identityToken,
    auth: "",
    registryToken: "",
  };
}

/**
 * The form of `server_address` that containerd honours (ParseAuth in cri/server/images): it
 * compares the host of a URL with the host it talks to, and silently goes on without the login if
 * they differ. A bare `host:port` has no host to it.
 */
function serverUrl(serverAddress: string): string {
  const host = serverAddress.replace(/^https?:\/\//u, "").replace(/\/.*$/u, "");
  return `https://${dockerHubNames.includes(host) ? dockerHubHost : host}`;
}

function secretsOf(credentials: PullCredentials): string[] {
  if ("identityToken" in credentials) return [credentials.identityToken];
  const { username, password } = credentials;
  return [password, Buffer.from(`${username}:${password}`).toString("base64")];
}
