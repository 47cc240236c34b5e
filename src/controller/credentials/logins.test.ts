import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { ImagePlan, ImagePlanSpec } from "#api/v1/image-plan.ts";
import { matchesSelector } from "#api/v1/selector.ts";
import { normalizeReference, parseReference } from "#oci/reference.ts";
import type { KeyringEntry } from "#remote/keyring.ts";
import { loginsOnNode, plansAsking } from "./logins.ts";

function aPlan(
  namespace: string,
  references: readonly string[],
  spec: Partial<ImagePlanSpec> = { pullSecretsRevision: "1" },
): ImagePlan {
  return {
    metadata: { name: "plan", namespace },
    spec: {
      selector: [],
      priority: 0,
      images: references.map((reference) => ({ reference: normalizeReference(reference) })),
      ...spec,
    },
  };
}

function anEntry(registry: string, path: string, username: string): KeyringEntry {
  return { registry, path, login: { username, password: "reef" } };
}

const hosts = ["one.test", "two.test:5000", "docker.io"];
const paths = ["a/app", "a/b/app", "library/debian"];
const reference = fc
  .tuple(fc.constantFrom(...hosts), fc.constantFrom(...paths), fc.constantFrom("1", "2"))
  .map(([host, path, tag]) => `${host}/${path}:${tag}`);
const references = fc.uniqueArray(reference, { maxLength: 6 });
const labels = fc.record({ zone: fc.constantFrom("a", "b") });

function namesFor(reference: string, asking: Parameters<typeof loginsOnNode>[1]): unknown[] {
  const logins = loginsOnNode([reference], asking);
  return logins.map(({ login }) => "username" in login && login.username);
}

/** One tenant: what it asks for and where, and a login that tells where it comes from. */
const tenant = fc.record({
  namespace: fc.constantFrom("team", "others", "third"),
  references,
  zone: fc.option(fc.constantFrom("a", "b")),
  hasSecrets: fc.boolean(),
  places: fc.array(
    fc.tuple(fc.constantFrom(...hosts), fc.constantFrom("", "a", "a/b", "library")),
    { maxLength: 5 },
  ),
});

describe("the logins of a node", () => {
  test("are only for what an Image asks for there, from its own Secrets, for its own host", () => {
    fc.assert(
      fc.property(
        fc.array(tenant, { maxLength: 5 }),
        references,
        labels,
        (tenants, asked, labels) => {
          const parts = tenants.map(
            ({ namespace, references, zone, hasSecrets, places }, index) => ({
              plan: aPlan(namespace, references, {
                selector: zone === null ? [] : [{ key: "zone", operator: "In", values: [zone] }],
                ...(hasSecrets && { pullSecretsRevision: "1" }),
              }),
              entries: places.map(([host, path]) =>
                anEntry(host, path, `${index} ${host} ${path}`),
              ),
            }),
          );
          const plans = parts.map(({ plan }) => plan);
          const asking = plansAsking(asked, labels, plans).map((plan) => ({
            namespace: plan.metadata.namespace ?? "",
            references: new Set(plan.spec.images.map(({ reference }) => reference)),
            entries: parts.find((part) => part.plan === plan)?.entries ?? [],
          }));
          const logins = loginsOnNode(asked, asking);

          for (const { reference, registry, login } of logins) {
            assert.ok("username" in login);
            const [index = "", host = "", path = ""] = login.username.split(" ");
            const plan: ImagePlan | undefined = plans.at(Number(index));
            const repository = parseReference(reference);
            assert.ok(asked.includes(reference));
            assert.equal(registry, repository.registry);
            assert.equal(host, repository.registry);
            assert.ok(path === "" || repository.path.startsWith(`${path}/`));
            assert.ok(plan !== undefined);
            assert.ok(plan.spec.images.some((image) => image.reference === reference));
            assert.ok(matchesSelector(plan.spec.selector, labels));
            assert.ok(tenants[Number(index)]?.hasSecrets);
          }
          // And none is missing, but beyond eight of a namespace for one reference.
          const namespaceOf = (username: string): string | undefined =>
            tenants[Number(username.split(" ")[0])]?.namespace;
          for (const [index, { plan, entries }] of parts.entries()) {
            const { hasSecrets } = tenants[index] ?? {};
            if (!hasSecrets || !matchesSelector(plan.spec.selector, labels)) continue;
            for (const { reference } of plan.spec.images.filter((image) =>
              asked.includes(image.reference),
            )) {
              const { registry, path } = parseReference(reference);
              const fitting = entries.filter(
                (entry) =>
                  entry.registry === registry &&
                  (entry.path === "" || path.startsWith(`${entry.path}/`)),
              );
              for (const { login } of fitting) {
                const has = logins.some(
                  (other) =>
                    other.reference === reference &&
                    JSON.stringify(other.login) === JSON.stringify(login),
                );
                const ofNamespace = logins.filter(
                  (other) =>
                    other.reference === reference &&
                    "username" in other.login &&
                    namespaceOf(other.login.username) === plan.metadata.namespace,
                );
                assert.ok(has || ofNamespace.length === 8, `${index} for ${reference}`);
              }
            }
          }
        },
      ),
    );
  });

  test("are in order, the longest path first, also from several Images of a namespace", () => {
    const common = { namespace: "team", references: new Set(["one.test/a/b/app:1"]) };
    const names = namesFor("one.test/a/b/app:1", [
      { ...common, entries: [anEntry("one.test", "a", "anna")] },
      { ...common, entries: [anEntry("one.test", "", "ben"), anEntry("one.test", "a/b", "cora")] },
    ]);
    assert.deepEqual(names, ["cora", "anna", "ben"]);
  });

  test("of a namespace put off those of another by one each, however many and fitting they are", () => {
    const common = { references: new Set(["one.test/a/b/app:1"]) };
    const wrong = Array.from({ length: 100 }, (_, index) => `wrong${index}`);
    const entries = wrong.map((name) => anEntry("one.test", "a/b/app", name));
    const images = wrong.map(() => ({ ...common, namespace: "hostile", entries }));
    const right = [anEntry("one.test", "", "right")];
    const names = namesFor("one.test/a/b/app:1", [
      ...images,
      { ...common, namespace: "team", entries: right },
    ]);
    assert.deepEqual(names.slice(0, 2), ["wrong0", "right"]);
    assert.equal(names.length, 9);
  });

  test("of a provider come last of each namespace, where no wrong login of another puts them off", () => {
    const reference = "one.test/a/b/app:1";
    const common = { references: new Set([reference]) };
    const wrong = Array.from({ length: 100 }, (_, index) =>
      anEntry("one.test", "", `wrong${index}`),
    );
    const provided = new Map([[reference, [{ username: "cloud", password: "reef" }]]]);
    const namesOf = (...asking: Parameters<typeof loginsOnNode>[1]): unknown[] =>
      loginsOnNode([reference], asking, provided).map(
        ({ login }) => "username" in login && login.username,
      );

    const own = [anEntry("one.test", "", "anna"), anEntry("one.test", "a", "ben")];
    assert.deepEqual(namesOf({ ...common, namespace: "team", entries: own }), [
      "ben",
      "anna",
      "cloud",
    ]);
    const names = namesOf(
      { ...common, namespace: "hostile", entries: wrong },
      { ...common, namespace: "team", entries: [] },
    );
    assert.deepEqual(names.slice(0, 2), ["wrong0", "cloud"]);
    assert.equal(names.length, 9);
  });

  test("of a provider are for nothing that no Image asks for", () => {
    const provided = new Map([["one.test/a/app:1", [{ username: "cloud", password: "reef" }]]]);
    assert.deepEqual(loginsOnNode(["one.test/a/app:1"], [], provided), []);
  });

  test("are found whatever way the name is spelled", () => {
    const plan = aPlan("team", ["debian:13"]);
    const entries = [anEntry("docker.io", "", "anna")];
    for (const spelling of ["debian:13", "index.docker.io/library/debian:13"]) {
      assert.deepEqual(plansAsking([spelling], {}, [plan]), [plan]);
      const references = new Set(plan.spec.images.map(({ reference }) => reference));
      assert.deepEqual(loginsOnNode([spelling], [{ namespace: "team", references, entries }]), [
        {
          reference: spelling,
          registry: "docker.io",
          login: { username: "anna", password: "reef" },
        },
      ]);
    }
  });
});
