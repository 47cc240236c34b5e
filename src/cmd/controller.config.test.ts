import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { providerFiles } from "./controller.config.ts";

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
