import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { jsonLog } from "#telemetry/log.ts";
import {
  anAnswer,
  aProvider,
  installFake,
  startsIn,
  type FakeProvider,
} from "#test/credential-providers.ts";
import { askProvider, type AskOptions } from "./provider-program.ts";
import type { ProviderResponse } from "./provider-response.ts";

const anna = { username: "anna", password: "anemone-red" };
const repository = { registry: "r.io", path: "shop/web" };

/** Asks a fake provider once. */
async function ask(
  does: FakeProvider,
  { env = {}, ...options }: Partial<AskOptions> & { env?: Record<string, string> },
): Promise<ProviderResponse> {
  await using folder = await mkdtempDisposable(join(tmpdir(), "coral-"));
  await installFake(folder.path, "fake");
  const common = { folder: folder.path, environment: process.env, timeoutMs: 20_000 };
  const signal = AbortSignal.timeout(30_000);
  return await askProvider(aProvider(["r.io"], does, { env }), repository, {
    ...common,
    signal,
    ...options,
  });
}

describe("askProvider()", { timeout: 60_000 }, () => {
  test("returns the answer", async ({ signal }) => {
    const { entries } = await ask({ answer: anAnswer({ "r.io": anna }) }, { signal });

    assert.deepEqual(entries, [{ registry: "r.io", path: "", login: anna }]);
  });

  test("gives a provider the environment with its variables, without what configures Coral", async ({
    signal,
  }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-"));
    const recordIn = join(folder.path, "starts");
    const environment = {
      AWS_ROLE_ARN: "arn",
      AWS_REGION: "eu-north-1",
      HTTPS_PROXY: undefined,
      CORAL_TLS_DIR: "/tls",
      NODE_OPTIONS: "--no-such-option",
      KUBECONFIG: "/kubeconfig",
    };
    await ask(
      { recordIn, answer: anAnswer({}) },
      { environment, env: { AWS_REGION: "eu-west-1" }, signal },
    );
    const [start] = startsIn(recordIn);

    assert.deepEqual(start?.env, { AWS_ROLE_ARN: "arn", AWS_REGION: "eu-west-1" });
    assert.deepEqual(start.request, {
      kind: "CredentialProviderRequest",
      apiVersion: "credentialprovider.kubelet.k8s.io/v1",
      image: "r.io/shop/web",
    });
  });

  const failures: Record<string, [does: FakeProvider, message: RegExp]> = {
    "that fails": [{ exitCode: 2, stderr: "no identity\n" }, /"r\.io": exit code 2: no identity$/],
    "that fails without a word": [{ exitCode: 1 }, /exit code 1$/],
    "that writes too much": [{ floodBytes: 2 << 20 }, /it wrote more than 1048576 bytes$/],
    "that hangs": [{ delayMs: 60_000 }, /it ran for more than 1 s$/],
    "that writes nothing": [{}, /its answer must write a JSON object$/],
    "that answers in another version": [
      { answer: { kind: "CredentialProviderResponse", apiVersion: "v1" } },
      /its answer apiVersion must be "credentialprovider\.kubelet\.k8s\.io\/v1"$/,
    ],
  };
  for (const [what, [does, message]] of Object.entries(failures)) {
    test(`names a provider ${what}`, async ({ signal }) => {
      const timeoutMs = does.delayMs === undefined ? 20_000 : 1_000;

      await assert.rejects(ask(does, { timeoutMs, signal }), { code: "PROVIDER_FAILED", message });
    });
  }

  test("names a provider that is gone", async ({ signal }) => {
    await assert.rejects(ask({}, { folder: "/absent", signal }), {
      message: 'Credential provider "fake" gave no answer for "r.io": it cannot be started',
    });
  });

  test("tells no secret, wherever the program writes it", async ({ signal }) => {
    const lines: string[] = [];
    const log = jsonLog({ level: "debug", write: (line) => lines.push(line) });
    const broken = anAnswer({ "r.io": anna }, { cacheDuration: "soon" });
    const env = { CLIENT_SECRET: "barnacle blue" };
    for (const does of [
      { exitCode: 1, answer: broken, stderr: "cannot use anemone-red\n" },
      { exitCode: 1, stderr: "password: anemone-red, barnacle blue" },
      { answer: broken, stderr: "anemone-red" },
      { answer: "anemone-red barnacle blue" },
    ]) {
      await ask(does, { env, signal }).catch((error: unknown) => log.error("failed", { error }));
    }

    assert.equal(lines.length, 4);
    assert.ok(!/anemone-red|barnacle/.test(lines.join()), lines.join());
  });

  test("kills the program when nobody wants its answer any more", async () => {
    const stop = new AbortController();
    const asking = ask({ delayMs: 60_000 }, { signal: stop.signal });
    stop.abort(new Error("enough"));

    await assert.rejects(asking, /enough/);
  });
});
