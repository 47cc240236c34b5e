import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { FakeRuntime } from "#test/fake-runtime.ts";
import { PullError } from "./pull-error.ts";
import { RuntimeClient, type PullCredentials } from "./runtime-client.ts";

const reference = "registry.test:5000/a/b:1";
const timeoutMs = 10_000;

describe("RuntimeClient.connect()", () => {
  test("fails where no runtime listens", async ({ signal }) => {
    await assert.rejects(RuntimeClient.connect("/nonexistent/cri.sock", { signal }), {
      code: "RUNTIME_UNAVAILABLE",
    });
  });
});

describe("RuntimeClient.pull()", () => {
  const password = { username: "user", password: "secret-password" };
  const table: Record<string, [PullCredentials, Record<string, string>]> = {
    "sends a password for the registry's URL": [
      { serverAddress: "registry.test:5000", ...password },
      { serverAddress: "https://registry.test:5000", ...password },
    ],
    "sends Docker Hub's login to the host that serves it": [
      { serverAddress: "https://index.docker.io/v1/", ...password },
      { serverAddress: "https://registry-1.docker.io", ...password },
    ],
    "sends an identity token": [
      { serverAddress: "http://registry.test", identityToken: "token" },
      { serverAddress: "https://registry.test", identityToken: "token" },
    ],
  };
  for (const [fact, [credentials, wanted]] of Object.entries(table)) {
    test(fact, async ({ signal }) => {
      await using runtime = (await FakeRuntime.start()).offer(reference);
      await using client = await RuntimeClient.connect(runtime.socketPath, { signal });

      await client.pull(reference, { credentials, timeoutMs, signal });

      const nothing = {
        username: "",
        password: "",
        auth: "",
        serverAddress: "",
        identityToken: "",
        registryToken: "",
      };
      assert.deepEqual(runtime.pulls, [{ reference, auth: { ...nothing, ...wanted } }]);
    });
  }

  test("sends no login when none is given", async ({ signal }) => {
    await using runtime = (await FakeRuntime.start()).offer(reference);
    await using client = await RuntimeClient.connect(runtime.socketPath, { signal });

    await client.pull(reference, { timeoutMs, signal });

    assert.deepEqual(runtime.pulls, [{ reference, auth: undefined }]);
  });

  test("keeps the login out of the error of a runtime that repeats it", async ({ signal }) => {
    await using runtime = (await FakeRuntime.start()).fail(
      reference,
      "UNKNOWN",
      "login user:secret-password (dXNlcjpzZWNyZXQtcGFzc3dvcmQ=) failed: 401 Unauthorized",
    );
    await using client = await RuntimeClient.connect(runtime.socketPath, { signal });
    const credentials = { serverAddress: "registry.test:5000", ...password };

    await assert.rejects(client.pull(reference, { credentials, timeoutMs, signal }), (error) => {
      assert.ok(error instanceof PullError);
      assert.equal(error.code, "PULL_DENIED");
      assert.equal(error.reason, "login user:*** (***) failed: 401 Unauthorized");
      assert.equal(error.cause, undefined);
      return true;
    });
  });

  test("is a failed pull when its time is over", async ({ signal }) => {
    await using runtime = (await FakeRuntime.start()).offer(reference).slow(reference, 60_000);
    await using client = await RuntimeClient.connect(runtime.socketPath, { signal });

    await assert.rejects(client.pull(reference, { timeoutMs: 20, signal }), {
      code: "PULL_TIMED_OUT",
      retryable: true,
    });
  });

  test("is not a failed pull when it is aborted", async ({ signal }) => {
    await using runtime = (await FakeRuntime.start()).offer(reference);
    await using client = await RuntimeClient.connect(runtime.socketPath, { signal });
    using hold = runtime.hold(reference);
    const caller = new AbortController();
    const pull = client.pull(reference, { timeoutMs, signal: caller.signal });
    await hold.reached;

    const reason = new Error("Told to stop");
    caller.abort(reason);

    await assert.rejects(pull, reason);
  });

  test("does not hold up another pull", async ({ signal }) => {
    const other = "registry.test:5000/a/c:1";
    await using runtime = (await FakeRuntime.start()).offer(reference).offer(other);
    await using client = await RuntimeClient.connect(runtime.socketPath, { signal });
    using hold = runtime.hold(reference);
    const held = client.pull(reference, { timeoutMs, signal });
    await hold.reached;

    await client.pull(other, { timeoutMs, signal });
    assert.deepEqual(runtime.tags, [other]);
    hold.release();
    await held;

    assert.deepEqual(runtime.tags, [reference, other]);
  });
});

describe("RuntimeClient.remove()", () => {
  test("takes every tag of the image", async ({ signal }) => {
    const digest = `sha256:${"a".repeat(64)}`;
    const other = "registry.test:5000/a/b:latest";
    await using runtime = (await FakeRuntime.start())
      .offer(reference, { digest })
      .offer(other, { digest });
    await using client = await RuntimeClient.connect(runtime.socketPath, { signal });
    const id = await client.pull(reference, { timeoutMs, signal });
    assert.equal(await client.pull(other, { timeoutMs, signal }), id);

    await client.remove(reference, { signal });

    assert.deepEqual(await client.listImages({ signal }), []);
  });
});

describe("RuntimeClient.imageEvents()", () => {
  test("is unsupported by a runtime without containerd's events", async ({ signal }) => {
    await using runtime = await FakeRuntime.start({ name: "cri-o", isContainerd: false });
    await using client = await RuntimeClient.connect(runtime.socketPath, { signal });
    const events = client.imageEvents({ signal })[Symbol.asyncIterator]();

    await assert.rejects(events.next(), { name: "UnsupportedError", code: "UNSUPPORTED" });
  });
});

describe("RuntimeClient.ingests() and readBlob()", () => {
  test("are unsupported by a runtime without containerd's content", async ({ signal }) => {
    await using runtime = await FakeRuntime.start({ name: "cri-o", isContainerd: false });
    await using client = await RuntimeClient.connect(runtime.socketPath, { signal });

    await assert.rejects(client.ingests({ signal }), { code: "UNSUPPORTED" });
    await assert.rejects(client.readBlob("sha256:1", { signal }), { code: "UNSUPPORTED" });
  });
});
