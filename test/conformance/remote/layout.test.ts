import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Layout } from "#layout/layout.ts";
import { FakeRegistry } from "#test/fake-repository.ts";
import { contentTargetSuite, type TargetUnderTest } from "./content-suite.ts";
import { removalSuite } from "./removal-suite.ts";

async function aLayout(): Promise<TargetUnderTest> {
  const folder = await mkdtemp(join(tmpdir(), "coral-layout-"));
  const layout = await Layout.open(folder, { create: true });
  return {
    repository: (path) => layout.repository(`registry.test/${path}`),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

function aFake(options: ConstructorParameters<typeof FakeRegistry>[1]): TargetUnderTest {
  const registry = new FakeRegistry("registry.test", options);
  return {
    repository: (path) => registry.repository(path),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

contentTargetSuite("An OCI layout", aLayout);
removalSuite("An OCI layout", "tags and digests", aLayout);

for (const hasReferrersApi of [true, false]) {
  const where = hasReferrersApi ? "with" : "without";
  contentTargetSuite(`FakeRepository ${where} the referrers API`, async () =>
    aFake({ hasReferrersApi }),
  );
}

for (const removes of ["tags and digests", "digests", "nothing"] as const) {
  removalSuite("FakeRepository", removes, async () => aFake({ removes }));
}
