import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { inClusterConfig, kubeconfigFile, tokenFile } from "./cluster-config.ts";

const aFolder = (): ReturnType<typeof mkdtempDisposable> =>
  mkdtempDisposable(join(tmpdir(), "coral-kube-"));

const base64 = (text: string): string => Buffer.from(text).toString("base64");

describe("inClusterConfig()", () => {
  test("reads what the kubelet gives a pod", async () => {
    await using folder = await aFolder();
    await writeFile(join(folder.path, "ca.crt"), "the authority");
    await writeFile(join(folder.path, "token"), "the-token\n");
    const env = { KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "6443" };
    const config = await inClusterConfig({ env, directory: folder.path });

    assert.equal(config.server.href, "https://[fd00::1]:6443/");
    assert.equal(config.ca, "the authority");
    assert.equal(await config.token?.(), "the-token");
  });

  test("says what is missing outside a pod", async () => {
    await assert.rejects(inClusterConfig({ env: {} }), {
      code: "CLUSTER_CONFIG",
      message: "KUBERNETES_SERVICE_HOST: must be set, as in a pod",
    });
  });
});

describe("tokenFile()", () => {
  test("reads a file again after a minute, and not before", async () => {
    await using folder = await aFolder();
    const path = join(folder.path, "token");
    let nowMs = 0;
    const read = tokenFile(path, () => nowMs);
    await writeFile(path, "first");
    assert.equal(await read(), "first");

    await writeFile(path, "second");
    nowMs = 59_999;
    assert.equal(await read(), "first");
    nowMs = 60_000;
    assert.equal(await read(), "second");
  });
});

async function read(cluster: unknown, user: unknown, files: Record<string, string> = {}) {
  await using folder = await aFolder();
  const path = join(folder.path, "config");
  const config = {
    "current-context": "here",
    contexts: [{ name: "here", context: { cluster: "c", user: "u" } }],
    clusters: [{ name: "c", cluster }],
    users: [{ name: "u", user }],
  };
  await writeFile(path, JSON.stringify(config));
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder.path, name), text);
  return await kubeconfigFile(path);
}

describe("kubeconfigFile()", () => {
  const server = "https://127.0.0.1:6443/prefix";

  test("reads certificates and a token that stand in it", async () => {
    const config = await read(
      { server, "certificate-authority-data": base64("ca"), "tls-server-name": "kubernetes" },
      {
        "client-certificate-data": base64("cert"),
        "client-key-data": base64("key"),
        token: "the-token",
      },
    );
    const { ca, clientCert, clientKey, serverName } = config;

    assert.deepEqual([ca, clientCert, clientKey, serverName], ["ca", "cert", "key", "kubernetes"]);
    assert.equal(config.server.href, server);
    assert.equal(await config.token?.(), "the-token");
  });

  test("reads files beside it", async () => {
    const files = { "ca.pem": "ca", "cert.pem": "cert", "key.pem": "key" };
    const user = { "client-certificate": "cert.pem", "client-key": "key.pem" };
    const config = await read({ server, "certificate-authority": "ca.pem" }, user, files);

    assert.deepEqual([config.ca, config.clientCert, config.clientKey], ["ca", "cert", "key"]);
  });

  test("takes the context that is named, with its namespace", async () => {
    await using folder = await aFolder();
    const path = join(folder.path, "config");
    const config = {
      "current-context": "here",
      contexts: [
        { name: "here", context: { cluster: "c", user: "u" } },
        { name: "there", context: { cluster: "d", user: "u", namespace: "shop" } },
      ],
      clusters: [
        { name: "c", cluster: { server } },
        { name: "d", cluster: { server: "https://there.example" } },
      ],
      users: [{ name: "u", user: {} }],
    };
    await writeFile(path, JSON.stringify(config));
    const there = await kubeconfigFile(path, { context: "there" });

    assert.equal(there.server.host, "there.example");
    assert.equal(there.namespace, "shop");
    assert.equal((await kubeconfigFile(path)).namespace, undefined);
    await assert.rejects(kubeconfigFile(path, { context: "nowhere" }), /contexts\["nowhere"\]/);
  });

  const refusals: Record<string, [cluster: unknown, user: unknown, problem: RegExp]> = {
    "a program that prints credentials": [{ server }, { exec: {} }, /user\.exec: is not supported/],
    "a password": [{ server }, { username: "a", password: "secret" }, /user\.username: is not/],
    "unverified servers": [{ server, "insecure-skip-tls-verify": true }, {}, /skip-tls-verify: is/],
    "a cluster without server": [{}, {}, /cluster\.server: must be a text/],
    "a cluster that is not there": [null, {}, /clusters\["c"\]: must be an object/],
    "a file that is not there": [
      { server, "certificate-authority": "no" },
      {},
      /no: cannot be read/,
    ],
  };
  for (const [what, [cluster, user, problem]] of Object.entries(refusals)) {
    test(`refuses ${what}`, async () => {
      await assert.rejects(read(cluster, user), { code: "CLUSTER_CONFIG", message: problem });
    });
  }

  test("quotes nothing of a file that it cannot parse", async () => {
    await using folder = await aFolder();
    const path = join(folder.path, "config");
    await writeFile(path, "token: [secret-token");
    await assert.rejects(kubeconfigFile(path), { message: `${path}: must be YAML` });
  });
});
