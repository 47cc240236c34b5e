import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Layout } from "#layout/layout.ts";
import { FakeRegistry } from "#test/fake-repository.ts";
import { contentTargetSuite } from "./content-suite.ts";

contentTargetSuite("An OCI layout", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coral-layout-"));
  const layout = await Layout.open(folder, { create: true });
  return {
    repository: (path) => layout.repository(`registry.test/${path}`),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
});

for (const hasReferrersApi of [true, false]) {
  const where = hasReferrersApi ? "with" : "without";
  contentTargetSuite(`FakeRepository ${where} the referrers API`, async () => {
    const registry = new FakeRegistry("registry.test", { hasReferrersApi });
    return {
      repository: (path) => registry.repository(path),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  });
}
