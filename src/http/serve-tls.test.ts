import assert from "node:assert/strict";
import { once } from "node:events";
import { get, Agent } from "node:https";
import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";

import { silentLog } from "#telemetry/log.ts";
import { aCertificate } from "#test/certificates.ts";
import { router } from "./router.ts";
import { serveTls, type CertificateSource, type ServerCertificate, type Serving } from "./serve.ts";

const hello = router({ "/": () => ({ body: "hello\n" }) }, silentLog);
const local = { port: 0, host: "127.0.0.1" };
const servername = "coral.test";

/** Holds a certificate that a test can replace. */
class Certificates implements CertificateSource {
  readonly #listeners = new Set<() => void>();
  #current: ServerCertificate | undefined;

  constructor(first?: ServerCertificate) {
    this.#current = first;
  }

  current(): ServerCertificate | undefined {
    return this.#current;
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  replace(next: ServerCertificate): void {
    this.#current = next;
    for (const listener of this.#listeners) listener();
  }

  get listeners(): number {
    return this.#listeners.size;
  }
}

async function handshake({ port }: Serving, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connect({ port, host: "127.0.0.1", servername, ...options });
  await once(socket, "secureConnect");
  return socket;
}

async function ask({ port }: Serving, ca: string, agent?: Agent): Promise<string> {
  const request = get({ port, host: "127.0.0.1", servername, ca, ...(agent && { agent }) });
  const [response]: IncomingMessage[] = await once(request, "response");
  assert.ok(response);
  return text(response);
}

describe("serveTls()", () => {
  test("answers over TLS, to clients that name a protocol and to those that do not", async () => {
    const { ca, ...certificate } = aCertificate(servername);
    const source = new Certificates(certificate);
    await using server = await serveTls(hello, { ...local, certificates: source });

    assert.equal(await ask(server, ca), "hello\n");
    for (const ALPNProtocols of [["http/1.1"], ["h2", "http/1.1"], undefined]) {
      const socket = await handshake(server, { ca, ...(ALPNProtocols && { ALPNProtocols }) });
      assert.equal(socket.alpnProtocol, ALPNProtocols ? "http/1.1" : false);
      socket.destroy();
    }
  });

  test("refuses versions of TLS before 1.2, also after a new certificate", async () => {
    const { ca, ...certificate } = aCertificate(servername);
    const source = new Certificates(certificate);
    await using server = await serveTls(hello, { ...local, certificates: source });
    const old = { ca, minVersion: "TLSv1", maxVersion: "TLSv1.1" } as const;

    await assert.rejects(handshake(server, old));
    source.replace(certificate);
    await assert.rejects(handshake(server, old));
    const socket = await handshake(server, { ca, maxVersion: "TLSv1.2" });
    assert.equal(socket.getProtocol(), "TLSv1.2");
    socket.destroy();
  });

  test("shows a new certificate to new connections and keeps the open ones", async () => {
    const { ca: oldCa, ...first } = aCertificate(servername);
    const { ca: newCa, ...second } = aCertificate(servername);
    const source = new Certificates(first);
    await using server = await serveTls(hello, { ...local, certificates: source });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    assert.equal(await ask(server, oldCa, agent), "hello\n");
    source.replace(second);

    assert.equal(await ask(server, newCa), "hello\n");
    assert.equal(await ask(server, oldCa, agent), "hello\n", "its connection is open");
    await assert.rejects(ask(server, oldCa));
    agent.destroy();
  });

  test("listens before it has a certificate, and serves as soon as it has one", async () => {
    const { ca, ...certificate } = aCertificate(servername);
    const source = new Certificates();
    await using server = await serveTls(hello, { ...local, certificates: source });
    await assert.rejects(ask(server, ca));
    source.replace(certificate);

    assert.equal(await ask(server, ca), "hello\n");
  });

  test("forgets its source when it is disposed, or cannot listen", async () => {
    const { ca: _, ...certificate } = aCertificate(servername);
    const source = new Certificates(certificate);
    const server = await serveTls(hello, { ...local, certificates: source });
    const { port } = server;
    const other = new Certificates(certificate);
    await assert.rejects(serveTls(hello, { ...local, port, certificates: other }), {
      code: "EADDRINUSE",
    });
    await server[Symbol.asyncDispose]();

    assert.equal(source.listeners, 0);
    assert.equal(other.listeners, 0);
  });
});
