import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { stringify } from "yaml";

import { installFake } from "#test/credential-providers.ts";
import { parseProviders, ProviderConfigError, readProviders } from "./provider-config.ts";

/** As Amazon's guide for the kubelet has it. */
const ecr = {
  name: "ecr-credential-provider",
  matchImages: ["*.dkr.ecr.*.amazonaws.com", "public.ecr.aws"],
  defaultCacheDuration: "12h",
  apiVersion: "credentialprovider.kubelet.k8s.io/v1",
  args: ["get-credentials"],
  env: [{ name: "AWS_PROFILE", value: "reef" }],
};

function config(...providers: readonly unknown[]): Record<string, unknown> {
  return {
    apiVersion: "kubelet.config.k8s.io/v1",
    kind: "CredentialProviderConfig",
    providers,
  };
}

describe("parseProviders()", () => {
  test("takes a kubelet's file", () => {
    assert.deepEqual(parseProviders(config(ecr)), {
      providers: [
        {
          name: "ecr-credential-provider",
          places: [
            { registry: "*.dkr.ecr.*.amazonaws.com", path: "" },
            { registry: "public.ecr.aws", path: "" },
          ],
          defaultCacheMs: 12 * 3_600_000,
          args: ["get-credentials"],
          env: { AWS_PROFILE: "reef" },
        },
      ],
      problems: [],
    });
  });

  test("takes a provider without args and env", () => {
    const { args: _args, env: _env, ...rest } = ecr;
    const { providers, problems } = parseProviders(config(rest));

    assert.deepEqual(problems, []);
    assert.deepEqual([providers[0]?.args, providers[0]?.env], [[], {}]);
  });

  const mistakes: Record<string, [config: unknown, problem: string]> = {
    "something else": [[], "must be a CredentialProviderConfig"],
    "another version": [
      { ...config(ecr), apiVersion: "v1" },
      'apiVersion: "v1" must be "kubelet.config.k8s.io/v1"',
    ],
    "another kind": [
      { ...config(ecr), kind: "Config" },
      'kind: "Config" must be "CredentialProviderConfig"',
    ],
    "no providers": [config(), "providers: must be a list with at least 1"],
    "a provider that is a text": [config("ecr"), "providers[0]: must be an object"],
    "a name that leads elsewhere": [
      config({ ...ecr, name: "../sh" }),
      'providers[0].name: "../sh" must be the name of a file, of letters, digits, ".", "_" and "-"',
    ],
    "a name twice": [
      config(ecr, ecr),
      'providers[1].name: "ecr-credential-provider" must stand only once',
    ],
    "an older version": [
      config({ ...ecr, apiVersion: "credentialprovider.kubelet.k8s.io/v1beta1" }),
      'providers[0].apiVersion: "credentialprovider.kubelet.k8s.io/v1beta1" must be "credentialprovider.kubelet.k8s.io/v1"',
    ],
    "no patterns": [
      config({ ...ecr, matchImages: [] }),
      "providers[0].matchImages: must be a list with at least 1",
    ],
    "a pattern with a scheme": [
      config({ ...ecr, matchImages: ["r.io", "https://r.io"] }),
      'providers[0].matchImages[1]: "https://r.io" must be "host[:port][/path]", with "*" only in the host',
    ],
    "a pattern in the path": [
      config({ ...ecr, matchImages: ["r.io/team-*"] }),
      'providers[0].matchImages[0]: "r.io/team-*" must be "host[:port][/path]", with "*" only in the host',
    ],
    "a duration that is none": [
      config({ ...ecr, defaultCacheDuration: "12 hours" }),
      'providers[0].defaultCacheDuration: "12 hours" must be a duration like "12h" or "0s"',
    ],
    "a negative duration": [
      config({ ...ecr, defaultCacheDuration: "-1h" }),
      'providers[0].defaultCacheDuration: "-1h" must be a duration like "12h" or "0s"',
    ],
    "no duration": [
      config({ ...ecr, defaultCacheDuration: undefined }),
      "providers[0].defaultCacheDuration: must be a text",
    ],
    "a variable without a value": [
      config({ ...ecr, env: [{ name: "A" }] }),
      "providers[0].env[0].value: must be a text",
    ],
    "a variable that is two": [
      config({ ...ecr, env: [{ name: "A=B", value: "" }] }),
      'providers[0].env[0].name: "A=B" must be the name of a variable, without "="',
    ],
    "a spelling mistake": [
      config({ ...ecr, matchimages: [] }),
      "providers[0].matchimages: is no field that is known here",
    ],
    "service accounts of pods": [
      config({ ...ecr, tokenAttributes: { serviceAccountTokenAudience: "x" } }),
      "providers[0].tokenAttributes: is not supported: a prefetch is for no pod whose service account could be asked with",
    ],
  };
  for (const [what, [given, problem]] of Object.entries(mistakes)) {
    test(`refuses ${what}`, () => {
      assert.deepEqual(parseProviders(given), { providers: [], problems: [problem] });
    });
  }

  test("names everything that is wrong, and no value of a variable and no argument", () => {
    const secret = "very-secret";
    const { problems } = parseProviders(
      config({
        ...ecr,
        name: "",
        args: [1, { secret }],
        env: [{ name: "A", value: [secret] }, secret],
      }),
    );

    assert.deepEqual(
      problems.map((problem) => problem.split(":")[0]),
      [
        "providers[0].name",
        "providers[0].args[0]",
        "providers[0].args[1]",
        "providers[0].env[0].value",
        "providers[0].env[1]",
      ],
    );
    assert.ok(!problems.join().includes(secret));
  });

  test("never throws, and gives no provider when something is wrong", () => {
    fc.assert(
      fc.property(fc.object(), fc.constantFrom(...Object.keys(ecr)), (value, field) => {
        const { providers, problems } = parseProviders(config({ ...ecr, [field]: value }));
        assert.deepEqual(providers, []);
        assert.ok(problems.length > 0);
      }),
    );
  });
});

describe("readProviders()", () => {
  const texts = { YAML: stringify(config(ecr)), JSON: JSON.stringify(config(ecr)) };
  for (const [form, text] of Object.entries(texts)) {
    test(`reads ${form}`, async () => {
      await using folder = await mkdtempDisposable(join(tmpdir(), "coral-"));
      const file = join(folder.path, "config");
      await writeFile(file, text);
      await installFake(folder.path, ecr.name);
      const [provider] = await readProviders({ file, folder: folder.path });

      assert.equal(provider?.name, ecr.name);
    });
  }

  test("names the line of a mistake in the YAML, and quotes nothing", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-"));
    const file = join(folder.path, "config");
    await writeFile(file, 'kind: x\nenv:\n  - value: "very-secret\n');
    const reading = readProviders({ file, folder: folder.path });

    await assert.rejects(reading, (error) => {
      assert.ok(error instanceof ProviderConfigError);
      assert.match(error.message, /: line \d+ must be YAML or JSON \(MISSING_CHAR\)$/);
      return !error.message.includes("very-secret");
    });
  });

  test("names each program that is not there or cannot be run", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-"));
    const file = join(folder.path, "config");
    const names = ["absent", "a-text", "a-folder", "runs"];
    await writeFile(file, JSON.stringify(config(...names.map((name) => ({ ...ecr, name })))));
    await writeFile(join(folder.path, "a-text"), "", { mode: 0o644 });
    await mkdir(join(folder.path, "a-folder"));
    await installFake(folder.path, "runs");

    await assert.rejects(readProviders({ file, folder: folder.path }), {
      code: "PROVIDER_CONFIG",
      message: names
        .slice(0, 3)
        .map((name) => `${file}: no program "${name}" that can be run is in ${folder.path}`)
        .join("\n"),
    });
  });

  test("refuses a folder that depends on where Coral was started", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-"));
    const file = join(folder.path, "config");
    await writeFile(file, texts.JSON);

    await assert.rejects(readProviders({ file, folder: "bin" }), {
      message: '"bin" must be the full path of a folder',
    });
  });

  test("refuses a file that is not there", async () => {
    await assert.rejects(readProviders({ file: "/absent/config", folder: "/" }), {
      code: "PROVIDER_CONFIG",
      message: "/absent/config: cannot be read",
    });
  });
});
