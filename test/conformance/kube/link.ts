import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/** A network link to one server that a test can break. It carries bytes and looks into none. */
export class Link implements AsyncDisposable {
  readonly #target: URL;
  readonly #server: Server;
  readonly #pairs = new Set<{ near: Socket; far: Socket }>();
  #state: "open" | "cut" | "silent" = "open";

  private constructor(target: URL) {
    this.#target = target;
    this.#server = createServer((near) => this.#accept(near));
  }

  static async to(target: URL): Promise<Link> {
    const link = new Link(target);
    link.#server.listen(0, "127.0.0.1");
    await once(link.#server, "listening");
    return link;
  }

  /** The target's URL, by way of the link. */
  get url(): URL {
    const address = this.#server.address();
    const url = new URL(this.#target);
    if (address !== null && typeof address !== "string") url.port = String(address.port);
    return url;
  }

  /** Resets every connection. New ones work. */
  drop(): void {
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
    this.#pairs.clear();
  }

  /** Resets every connection, and new ones too, until restored. */
  cut(): void {
    this.#state = "cut";
    this.drop();
  }

  /**
   * Swallows everything from now on, new connections included. The server's side is closed; the
   * client's stays open for ever, and is not told.
   */
  silence(): void {
    this.#state = "silent";
    for (const { near, far } of this.#pairs) {
      near.unpipe(far);
      near.resume();
      far.unpipe(near);
      far.destroy();
    }
  }

  /** Lets new connections through again. */
  restore(): void {
    this.#state = "open";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.drop();
    await closed;
  }

  #accept(near: Socket): void {
    near.on("error", () => {});
    if (this.#state === "cut") return void near.resetAndDestroy();
    const far = connect(Number(this.#target.port), this.#target.hostname);
    far.on("error", () => near.destroy());
    const pair = { near, far };
    this.#pairs.add(pair);
    near.once("close", () => {
      far.destroy();
      this.#pairs.delete(pair);
    });
    if (this.#state === "silent") {
      near.resume();
      far.destroy();
      return;
    }
    far.once("close", () => {
      if (this.#state !== "silent") near.destroy();
    });
    near.pipe(far);
    far.pipe(near);
  }
}
