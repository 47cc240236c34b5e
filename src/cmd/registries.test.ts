import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { providerFiles, proxiesOf } from "./registries.ts";

describe("providerFiles()", () => {
  test("needs both settings or neither", () => {
    const [credentialProviderConfig, credentialProviderFolder] = ["/etc/providers.yaml", "/bin"];
    const neither = { credentialProviderConfig: undefined, credentialProviderFolder: undefined };

    assert.equal(providerFiles(neither), undefined);
    assert.deepEqual(providerFiles({ credentialProviderConfig, credentialProviderFolder }), {
      file: "/etc/providers.yaml",
      folder: "/bin",
    });
    assert.throws(() => providerFiles({ ...neither, credentialProviderConfig }), {
      code: "CONFIG_INVALID",
      message:
        "CORAL_CREDENTIAL_PROVIDER_BIN_DIR is required, because CORAL_CREDENTIAL_PROVIDER_CONFIG is set",
    });
    assert.throws(() => providerFiles({ ...neither, credentialProviderFolder }), {
      message:
        "CORAL_CREDENTIAL_PROVIDER_CONFIG is required, because CORAL_CREDENTIAL_PROVIDER_BIN_DIR is set",
    });
  });
});

describe("proxiesOf()", () => {
  test("is what the environment says, and names what is wrong without its login", () => {
    assert.equal(proxiesOf({}), undefined);
    const env = { HTTPS_PROXY: "http://proxy.test:3128", NO_PROXY: ".cluster.local" };
    assert.equal(proxiesOf(env)?.https?.host, "proxy.test:3128");
    assert.throws(
      () => proxiesOf({ HTTPS_PROXY: "socks5://anna:secret@proxy.test" }),
      (error: Error) => /HTTPS_PROXY/.test(error.message) && !error.message.includes("secret"),
    );
  });
});
