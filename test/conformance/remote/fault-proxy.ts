import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/** Breaks connections to a registry off. It passes all else on, byte by byte. */
export class FaultProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Bytes that pass before a connection is broken off. */
  readonly #left = { down: Infinity, up: Infinity };

  /** How many connections it has broken off. */
  broken = 0;

  private constructor(target: string) {
    const [host = "", port = ""] = target.split(":");
    this.#server = createServer((client) => {
      const registry = connect(Number(port), host);
      this.#pass(client, registry, "up");
      this.#pass(registry, client, "down");
    });
  }

  /** @param target - `host:port`. */
  static async start(target: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(target);
    await once(proxy.#server.listen(0, "127.0.0.1"), "listening");
    return proxy;
  }

  get host(): string {
    const address = this.#server.address();
    if (typeof address !== "object" || address === null) throw new Error("The proxy is closed");
    return `127.0.0.1:${address.port}`;
  }

  /** Breaks off the connection on which so many bytes from now have come from the registry, or gone to it. */
  breakAfter(bytes: number, direction: "down" | "up"): void {
    this.#left[direction] = bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.#server[Symbol.asyncDispose]();
  }

  #pass(from: Socket, to: Socket, direction: "down" | "up"): void {
    this.#sockets.add(from);
    from.on("error", () => to.destroy());
    from.on("close", () => {
      this.#sockets.delete(from);
      to.destroy();
    });
    from.on("end", () => to.end());
    from.on("drain", () => to.resume());
    from.on("data", (chunk) => {
      this.#left[direction] -= chunk.length;
      if (this.#left[direction] <= 0) {
        this.#left[direction] = Infinity;
        this.broken++;
        from.resetAndDestroy();
        to.resetAndDestroy();
      } else if (!to.write(chunk)) from.pause();
    });
  }
}
