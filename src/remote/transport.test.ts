import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request as send, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { connect, type AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { TLSSocket } from "node:tls";

import { systemClock } from "#async/clock.ts";
import { silentLog } from "#telemetry/log.ts";
import { aCertificate } from "#test/certificates.ts";
import { RecordingHost, type Respond } from "#test/recording-host.ts";
import { networkPolicy } from "./network-policy.ts";
import { parseProxies } from "./proxy.ts";
import { RegistryClient, type RegistryClientOptions } from "./registry-client.ts";

const { signal } = new AbortController();
const digest = `sha256:${"a".repeat(64)}`;
const ociIndex = "application/vnd.oci.image.index.v1+json";
const found = { digest, mediaType: ociIndex };

const gives: Respond = (_, response) => {
  response.writeHead(200, { "content-type": ociIndex, "docker-content-digest": digest }).end();
};

function aClient(options: Partial<RegistryClientOptions> = {}): RegistryClient {
  return new RegistryClient({
    userAgent: "coral/test",
    log: silentLog,
    clock: systemClock,
    network: networkPolicy({ deniedNetworks: [], allowedNetworks: ["127.0.0.0/8"] }),
    plainHttp: [],
    timeoutMs: 20_000,
    random: () => 1 - 1e-9,
    ...options,
  });
}

async function find(client: RegistryClient, host: string): Promise<unknown> {
  return client.repository(`${host}/app`, { logins: [] }).find("1", { signal });
}

/** A proxy that leads every name to one host, and remembers what it was asked for. */
class Proxy implements AsyncDisposable {
  readonly #server: Server;
  readonly asked: string[] = [];
  readonly logins: (string | undefined)[] = [];

  private constructor(target: RecordingHost) {
    this.#server = createServer((request, response) => {
      const { method, url = "", headers } = request;
      this.asked.push(`${method} ${url}`);
      this.logins.push(headers["proxy-authorization"]);
      const { pathname, search } = new URL(url);
      const options = { host: "127.0.0.1", port: target.port, method, headers };
      request.pipe(
        send({ ...options, path: pathname + search }, (answer) => {
          response.writeHead(answer.statusCode ?? 0, answer.rawHeaders);
          answer.pipe(response);
        }),
      );
    });
    this.#server.on("connect", ({ url, headers }, client) => {
      this.asked.push(`CONNECT ${url}`);
      this.logins.push(headers["proxy-authorization"]);
      const host = connect(target.port, "127.0.0.1", () => {
        client.write("HTTP/1.1 200 OK\r\n\r\n");
        client.pipe(host).pipe(client);
      });
      client.on("error", () => host.destroy());
      host.on("error", () => client.destroy());
    });
  }

  static async start(target: RecordingHost): Promise<Proxy> {
    const proxy = new Proxy(target);
    await once(proxy.#server.listen(0, "127.0.0.1"), "listening");
    return proxy;
  }

  get url(): string {
    return `http://anna:anemone@127.0.0.1:${portOf(this.#server)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await this.#server[Symbol.asyncDispose]();
  }
}

function portOf(server: { address(): AddressInfo | string | null }): number {
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("The server is closed");
  return address.port;
}

describe("RegistryClient behind a proxy", () => {
  const proxyLogin = `Basic ${Buffer.from("anna:anemone").toString("base64")}`;

  test("reaches a registry that only the proxy can find, and shows it nothing of the proxy", async () => {
    const { ca, ...tls } = aCertificate("registry.test");
    await using registry = await RecordingHost.start(gives, tls);
    await using proxy = await Proxy.start(registry);
    await using client = aClient({ ca, proxies: parseProxies({ HTTPS_PROXY: proxy.url }) });

    assert.deepEqual(await find(client, "registry.test"), found);

    assert.deepEqual(proxy.asked, ["CONNECT registry.test:443"]);
    assert.deepEqual(proxy.logins, [proxyLogin]);
    assert.deepEqual(registry.authorizations, []);
  });

  test("reads and writes through it with plain HTTP", async () => {
    await using registry = await RecordingHost.start((request, response) => {
      if (request.method === "PUT") response.writeHead(201).end();
      else gives(request, response);
    });
    await using proxy = await Proxy.start(registry);
    await using client = aClient({
      plainHttp: ["registry.test:5000"],
      proxies: parseProxies({ HTTP_PROXY: proxy.url }),
    });
    const repository = client.repository("registry.test:5000/app", { logins: [] });
    const manifest = { ...found, bytes: Buffer.from("{}") };

    assert.deepEqual(await repository.find("1", { signal }), found);
    await repository.putManifest("1", manifest, { signal });

    assert.deepEqual(proxy.asked, [
      "HEAD http://registry.test:5000/v2/app/manifests/1",
      "PUT http://registry.test:5000/v2/app/manifests/1",
    ]);
    assert.equal(registry.requests[1]?.body, "{}");
  });

  test("streams blobs through it", async () => {
    const bytes = Buffer.alloc(300_000, "a");
    await using registry = await RecordingHost.start((_, response) => void response.end(bytes));
    await using proxy = await Proxy.start(registry);
    await using client = aClient({
      plainHttp: ["registry.test:5000"],
      proxies: parseProxies({ HTTP_PROXY: proxy.url }),
    });
    const repository = client.repository("registry.test:5000/app", { logins: [] });
    const descriptor = { mediaType: "a/b", digest, sizeBytes: bytes.length };

    const chunks = await Array.fromAsync(repository.blob(descriptor, { signal }));

    assert.ok(Buffer.concat(chunks).equals(bytes));
  });

  test("asks directly whom the settings except", async () => {
    await using registry = await RecordingHost.start(gives);
    await using proxy = await Proxy.start(registry);
    const { host } = registry;
    await using client = aClient({
      plainHttp: [host],
      proxies: parseProxies({ HTTP_PROXY: proxy.url, NO_PROXY: "127.0.0.0/8" }),
    });

    assert.deepEqual(await find(client, host), found);
    assert.deepEqual(proxy.asked, []);
  });

  test("goes to no address that the network policy denies, and to no such proxy", async () => {
    await using registry = await RecordingHost.start(gives);
    await using proxy = await Proxy.start(registry);
    const denied = networkPolicy({
      deniedNetworks: ["10.0.0.0/8"],
      allowedNetworks: ["127.0.0.0/8"],
    });
    const proxies = parseProxies({ HTTPS_PROXY: proxy.url });
    await using client = aClient({ network: denied, proxies });
    await using other = aClient({ proxies, network: networkPolicy({ deniedNetworks: [] }) });

    await assert.rejects(find(client, "10.1.2.3"), { code: "NOT_ALLOWED" });
    await assert.rejects(find(client, "169.254.169.254"), { code: "NOT_ALLOWED" });
    await assert.rejects(find(other, "registry.test"), { code: "NOT_ALLOWED" });

    assert.deepEqual(proxy.asked, []);
  });
});

describe("RegistryClient with TLS", () => {
  test("shows its certificate to a registry that asks for one", async () => {
    const { ca, ...tls } = aCertificate("localhost");
    const { ca: _, ...own } = aCertificate("coral.test");
    const shown: (string | undefined)[] = [];
    const options = { ...tls, requestCert: true, rejectUnauthorized: false };
    const server = createTlsServer(options, ({ socket }, response) => {
      const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
      shown.push(certificate?.subjectAltName);
      response.writeHead(200, { "content-type": ociIndex, "docker-content-digest": digest }).end();
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    try {
      const host = `localhost:${portOf(server)}`;
      await using client = aClient({ ca, clientCertificate: own });
      await using nobody = aClient({ ca });

      assert.deepEqual(await find(client, host), found);
      assert.deepEqual(await find(nobody, host), found);

      assert.deepEqual(shown, ["DNS:coral.test", undefined]);
    } finally {
      server.closeAllConnections();
      await server[Symbol.asyncDispose]();
    }
  });

  test("believes everybody only if it is told to", async () => {
    await using registry = await RecordingHost.start(gives, aCertificate("localhost"));
    await using careful = aClient();
    await using careless = aClient({ insecureSkipVerify: true });

    await assert.rejects(find(careful, registry.host), { code: "UNREACHABLE" });
    assert.deepEqual(await find(careless, registry.host), found);
  });

  test("goes on with an upload over HTTPS where a registry behind a proxy names plain HTTP", async () => {
    const { ca, ...tls } = aCertificate("localhost");
    await using registry = await RecordingHost.start(({ method }, response) => {
      const location = `http://${registry.host}/v2/app/blobs/uploads/1`;
      response.writeHead(method === "POST" ? 202 : 201, { location }).end();
    }, tls);
    await using client = aClient({ ca });
    const repository = client.repository(`${registry.host}/app`, {
      logins: [],
      actions: "pull,push",
    });
    const empty = { mediaType: "a/b", digest: `sha256:${emptyDigest}`, sizeBytes: 0 };

    await repository.writeBlob(empty, async function* () {}, { signal });

    assert.deepEqual(
      registry.requests.map(({ method }) => method),
      ["POST", "PUT"],
    );
  });
});

const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
