import { hash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

/** One request as a {@link BlobHost} saw it. */
export interface BlobRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly authorization: string | undefined;
  /** `Range` of a GET, `Content-Range` of a PATCH. */
  readonly range: string | undefined;
}

/** What goes wrong. Each list is for one request after the other, and then nothing goes wrong. */
export interface BlobFaults {
  /** Bytes of a blob that are sent before the connection breaks off. */
  readonly breakDownloads: number[];
  /** Bytes of a blob that are sent before nothing more comes. */
  readonly stallDownloads: number[];
  /** Bytes of an upload that are taken before the connection breaks off. */
  readonly breakUploads: number[];
  /** Statuses that requests other than for a token get, by method. */
  readonly refuse: {
    readonly method: string;
    readonly status: number;
    readonly headers?: Record<string, string>;
  }[];
  ignoresRanges: boolean;
  /** Says other things of a range than it sends. */
  contentRange: string | undefined;
  contentLength: number | undefined;
  /** Forgets uploads that broke off. */
  forgetsUploads: boolean;
  /** Stores what an upload brings, and breaks off before it says so. */
  losesAnswers: number;
  /** Where uploads go on, instead of on its own paths. */
  uploadsAt: string | undefined;
}

/** A registry's blobs on loopback with plain HTTP, with faults to be switched on. */
export class BlobHost implements AsyncDisposable {
  readonly #server: Server;
  readonly #uploads = new Map<string, Buffer>();

  readonly blobs = new Map<string, Buffer>();
  readonly requests: BlobRequest[] = [];
  readonly faults: BlobFaults = {
    breakDownloads: [],
    stallDownloads: [],
    breakUploads: [],
    refuse: [],
    ignoresRanges: false,
    contentRange: undefined,
    contentLength: undefined,
    forgetsUploads: false,
    losesAnswers: 0,
    uploadsAt: undefined,
  };

  /** If set, who asks without this header is asked for it. */
  authorization: string | undefined;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch(() => response.destroy());
    });
  }

  static async start(): Promise<BlobHost> {
    const host = new BlobHost();
    await once(host.#server.listen(0, "127.0.0.1"), "listening");
    return host;
  }

  get host(): string {
    const address = this.#server.address();
    if (typeof address !== "object" || address === null) throw new Error("The host is closed");
    return `127.0.0.1:${address.port}`;
  }

  /** Method and path of each request, without queries and names of uploads. */
  get log(): string[] {
    return this.requests.map(({ method, path, range }) => {
      const [short = ""] = path
        .replace(/sha256:\w+/, "DIGEST")
        .replace(/uploads\/\w+/, "uploads/ID")
        .split("?");
      return [
        method,
        short.split("/blobs/")[1] ?? short,
        ...(range === undefined ? [] : [range]),
      ].join(" ");
    });
  }

  /** @returns the blob's digest. */
  keep(bytes: Buffer): string {
    const digest = `sha256:${hash("sha256", bytes)}`;
    this.blobs.set(digest, bytes);
    return digest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await this.#server[Symbol.asyncDispose]();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url: path = "", headers } = request;
    const { authorization, range, "content-range": contentRange } = headers;
    this.requests.push({ method, path, authorization, range: range ?? contentRange });
    const refusal = this.faults.refuse.find((fault) => fault.method === method);
    if (refusal) {
      this.faults.refuse.splice(this.faults.refuse.indexOf(refusal), 1);
      response.writeHead(refusal.status, refusal.headers).end();
      return;
    }
    if (this.authorization !== undefined && authorization !== this.authorization) {
      response.writeHead(401, { "www-authenticate": 'Basic realm="blobs"' }).end();
      return;
    }
    const [digest] = /sha256:\w+$/.exec(path) ?? [];
    const [, upload] = /\/uploads\/(\w+)/.exec(path) ?? [];
    if (upload !== undefined) await this.#serveUpload(upload, request, response);
    else if (method === "POST") {
      const name = `u${this.requests.length}`;
      this.#uploads.set(name, Buffer.alloc(0));
      const where = this.faults.uploadsAt ?? "/v2/app/blobs/uploads/";
      response.writeHead(202, { location: `${where}${name}?state=1` }).end();
    } else this.#serveBlob(digest ?? "", request, response);
  }

  #serveBlob(digest: string, { method, headers }: IncomingMessage, response: ServerResponse): void {
    const { faults } = this;
    const bytes = this.blobs.get(digest);
    if (!bytes) {
      response.writeHead(404).end();
      return;
    }
    const [, wanted] = /^bytes=(\d+)-$/.exec(headers.range ?? "") ?? [];
    const start = wanted === undefined || faults.ignoresRanges ? 0 : Number(wanted);
    const part = bytes.subarray(start);
    const isPart = wanted !== undefined && !faults.ignoresRanges;
    const range = faults.contentRange ?? `bytes ${start}-${bytes.length - 1}/${bytes.length}`;
    response.writeHead(isPart ? 206 : 200, {
      "content-length": faults.contentLength ?? part.length,
      ...(isPart && { "content-range": range }),
    });
    if (method === "HEAD") {
      response.end();
      return;
    }
    const stallAfter = faults.stallDownloads.shift();
    const breakAfter = faults.breakDownloads.shift();
    const sent = part.subarray(0, stallAfter ?? breakAfter ?? part.length);
    if (stallAfter !== undefined) response.write(sent);
    else if (breakAfter !== undefined) response.write(sent, () => response.destroy());
    else response.end(sent);
  }

  async #serveUpload(
    name: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const { method, url = "" } = request;
    const { faults } = this;
    const kept = this.#uploads.get(name);
    if (!kept) {
      response.writeHead(404).end();
      return;
    }
    const location = `/v2/app/blobs/uploads/${name}?state=2`;
    if (method === "DELETE") {
      this.#uploads.delete(name);
      response.writeHead(204).end();
      return;
    }
    if (method === "GET") {
      response.writeHead(204, { location, range: `0-${Math.max(kept.length - 1, 0)}` }).end();
      return;
    }
    const hasBody = Number(request.headers["content-length"]) > 0;
    const limit = hasBody ? (faults.breakUploads.shift() ?? Infinity) : Infinity;
    const chunks = [kept];
    let taken = 0;
    for await (const chunk of request) {
      const bytes: Buffer = chunk;
      const part = bytes.subarray(0, limit - taken);
      chunks.push(part);
      taken += part.length;
      if (taken === limit) {
        if (faults.forgetsUploads) this.#uploads.delete(name);
        else this.#uploads.set(name, Buffer.concat(chunks));
        response.destroy();
        return;
      }
    }
    const bytes = Buffer.concat(chunks);
    this.#uploads.set(name, bytes);
    if (method === "PATCH") {
      response.writeHead(202, { location, range: `0-${bytes.length - 1}` }).end();
      return;
    }
    const digest = new URL(url, "http://host").searchParams.get("digest");
    if (digest !== `sha256:${hash("sha256", bytes)}`) {
      response.writeHead(400).end();
      return;
    }
    this.#uploads.delete(name);
    this.blobs.set(digest, bytes);
    if (faults.losesAnswers > 0) {
      faults.losesAnswers--;
      response.destroy();
    } else response.writeHead(201, { "docker-content-digest": digest }).end();
  }
}
