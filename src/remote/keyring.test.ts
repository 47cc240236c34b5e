import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { parseRepository } from "#oci/reference.ts";
import { assertLinear } from "#test/cost.ts";
import { loginsFor, parsePullSecret, type KeyringEntry } from "./keyring.ts";

const base64 = (text: string): string => Buffer.from(text).toString("base64");

const dockerConfig = (auths: unknown): { type: string; data: Record<string, string> } => ({
  type: "kubernetes.io/dockerconfigjson",
  data: { ".dockerconfigjson": base64(JSON.stringify({ auths })) },
});

const anna = { username: "anna", password: "anemone" };

describe("parsePullSecret()", () => {
  test("reads kubernetes.io/dockerconfigjson", () => {
    assert.deepEqual(parsePullSecret(dockerConfig({ "ghcr.io": anna })), {
      entries: [{ registry: "ghcr.io", path: "", login: anna }],
      problems: [],
    });
  });

  test("reads kubernetes.io/dockercfg", () => {
    const data = { ".dockercfg": base64(JSON.stringify({ "https://ghcr.io": anna })) };

    assert.deepEqual(parsePullSecret({ type: "kubernetes.io/dockercfg", data }), {
      entries: [{ registry: "ghcr.io", path: "", login: anna }],
      problems: [],
    });
  });

  const logins = {
    "takes a password with colons from auth": [
      { auth: base64("anna:a:b:") },
      { username: "anna", password: "a:b:" },
    ],
    "takes auth without padding": [
      { auth: base64("anna:anemone").replaceAll("=", "") },
      { username: "anna", password: "anemone" },
    ],
    "takes auth before username and password": [
      { auth: base64("ben:barnacle"), ...anna },
      { username: "ben", password: "barnacle" },
    ],
    "takes an identity token before all": [
      { auth: base64("00000000-0000-0000-0000-000000000000:"), identitytoken: "for-ever", ...anna },
      { identityToken: "for-ever" },
    ],
    "takes texts beyond ASCII": [
      { auth: base64("änna:pässword") },
      { username: "änna", password: "pässword" },
    ],
  } as const;
  for (const [fact, [auth, login]] of Object.entries(logins)) {
    test(fact, () => {
      const { entries, problems } = parsePullSecret(dockerConfig({ "ghcr.io": auth }));

      assert.deepEqual(entries, [{ registry: "ghcr.io", path: "", login }]);
      assert.deepEqual(problems, []);
    });
  }

  const places: Record<string, [registry: string, path: string]> = {
    "https://index.docker.io/v1/": ["docker.io", ""],
    "https://index.docker.io/v1": ["docker.io", ""],
    "index.docker.io": ["docker.io", ""],
    "docker.io/library": ["docker.io", "library"],
    "https://gcr.io/project": ["gcr.io", "project"],
    "http://gcr.io/v2/project/": ["gcr.io", "project"],
    "gcr.io/v1beta": ["gcr.io", "v1beta"],
    "GHCR.io/Team": ["ghcr.io", "Team"],
    "https://registry.test:443": ["registry.test:443", ""],
    "localhost:5000": ["localhost:5000", ""],
    "[::1]:5000/a/b": ["[::1]:5000", "a/b"],
    "*.azurecr.io": ["*.azurecr.io", ""],
  };
  for (const [key, [registry, path]] of Object.entries(places)) {
    test(`takes ${key} for ${registry} and the path "${path}"`, () => {
      const { entries } = parsePullSecret(dockerConfig({ [key]: anna }));

      assert.deepEqual(entries, [{ registry, path, login: anna }]);
    });
  }

  for (const key of [
    "",
    "/",
    "/v1/",
    "https://",
    "https:///a",
    "a b",
    "user:pw@host",
    "x?y",
    "a..b",
  ]) {
    test(`refuses a login for ${JSON.stringify(key)}, which is no host`, () => {
      const { entries, problems } = parsePullSecret(dockerConfig({ [key]: anna, "b.test": anna }));

      assert.deepEqual(entries, [{ registry: "b.test", path: "", login: anna }]);
      assert.match(problems.join(), /login 1 must be for a host/);
    });
  }

  const hostile = {
    "another type": { type: "Opaque", data: dockerConfig({ "a.test": anna }).data },
    "no type": { data: dockerConfig({ "a.test": anna }).data },
    "no data": { type: "kubernetes.io/dockerconfigjson" },
    "the other type's key": { ...dockerConfig({}), type: "kubernetes.io/dockercfg" },
    "no JSON": {
      type: "kubernetes.io/dockercfg",
      data: { ".dockercfg": base64("anemone") },
    },
    "no Base64": { type: "kubernetes.io/dockercfg", data: { ".dockercfg": "%%anemone%%" } },
    "a list": { type: "kubernetes.io/dockercfg", data: { ".dockercfg": base64('["anemone"]') } },
    "deep nesting": {
      type: "kubernetes.io/dockercfg",
      data: { ".dockercfg": base64("[".repeat(500_000)) },
    },
    "no auths": {
      type: "kubernetes.io/dockerconfigjson",
      data: { ".dockerconfigjson": base64('{"credHelpers": {"a.test": "anemone"}}') },
    },
    "too much": {
      type: "kubernetes.io/dockercfg",
      data: { ".dockercfg": base64(JSON.stringify({ "a.test": { auth: "x".repeat(1_200_000) } })) },
    },
  };
  for (const [fact, secret] of Object.entries(hostile)) {
    test(`tells what is wrong with ${fact}, and nothing of the text`, () => {
      const { entries, problems } = parsePullSecret(secret);

      assert.deepEqual(entries, []);
      assert.equal(problems.length, 1);
      assert.doesNotMatch(problems.join(), /anemone|xxx/);
    });
  }

  test("keeps what it tells of a large secret short", () => {
    const auths = Object.fromEntries(Array.from({ length: 2_000 }, (_, n) => [`h${n}.test`, n]));

    const { entries, problems } = parsePullSecret(dockerConfig(auths));

    assert.deepEqual(entries, []);
    assert.equal(problems.length, 11);
    assert.equal(problems.at(-1), "and 491 problems more");
  });

  test("tells nothing of a secret, whatever stands in it", () => {
    const word = fc.stringMatching(/^[0-9a-z]{12}$/).map((text) => `s3cret${text}`);
    fc.assert(
      fc.property(word, fc.json(), fc.nat(4), (secret, json, place) => {
        const wrong: unknown = JSON.parse(json);
        const auths = [
          { [secret]: wrong },
          { "a.test": secret },
          { "a.test": { auth: secret, username: wrong } },
          { "a.test": { auth: base64(secret) }, [`${secret}@b.test`]: wrong },
          [secret, wrong],
        ][place];

        const { problems } = parsePullSecret(dockerConfig(auths));

        assert.ok(!problems.join().includes(secret));
        assert.ok(!problems.join().includes(base64(secret)));
      }),
    );
  });
});

/** An entry for a place, with a login by which a test knows it. */
function entry(place: string, identityToken = place): KeyringEntry {
  const [parsed] = parsePullSecret(
    dockerConfig({ [place]: { identitytoken: identityToken } }),
  ).entries;
  assert.ok(parsed, place);
  return parsed;
}

function placesFor(repository: string, places: readonly string[]): string[] {
  const entries = places.map((place) => entry(place));
  return loginsFor(parseRepository(repository), entries).map((login) =>
    "username" in login ? login.username : login.identityToken,
  );
}

test("a login that would fill an answer to an agent is left out, and told without its text", () => {
  const auth = { username: "anna", password: "p".repeat(5_000) };
  const { entries, problems } = parsePullSecret(dockerConfig({ "one.test": auth }));

  assert.deepEqual(entries, []);
  assert.match(problems.join(), /at most 4096 characters/);
  assert.doesNotMatch(problems.join(), /ppp/);
});

describe("loginsFor()", () => {
  const table: Record<string, [repository: string, places: string[], wanted: string[]]> = {
    "gives the longest path first": [
      "gcr.io/a/b/c",
      ["gcr.io", "gcr.io/a/b", "gcr.io/a"],
      ["gcr.io/a/b", "gcr.io/a", "gcr.io"],
    ],
    "gives a host that is spelled out before one that is not": [
      "gcr.io/a/b",
      ["*.io/a/b", "gcr.io"],
      ["gcr.io", "*.io/a/b"],
    ],
    "matches a path at whole components": ["gcr.io/abc/d", ["gcr.io/ab", "gcr.io/abc/d/e"], []],
    "matches the path of the repository itself": ["gcr.io/a", ["gcr.io/a"], ["gcr.io/a"]],
    "matches Docker Hub by all its names": [
      "debian",
      ["https://index.docker.io/v1/", "docker.io"],
      ["https://index.docker.io/v1/", "docker.io"],
    ],
    "matches hosts whatever their case": ["GHCR.io/a", ["ghcr.IO"], ["ghcr.IO"]],
    "globs each label by itself": [
      "eu-1.registry.test/a",
      ["*.registry.test", "eu-*.*.test", "*.test", "*", "*1*.reg*try.t*t", "us-*.registry.test"],
      ["*.registry.test", "eu-*.*.test", "*1*.reg*try.t*t"],
    ],
    "lets no two parts of a glob share a letter": [
      "aba.test/a",
      ["ab*ba.test", "a*b*a.test"],
      ["a*b*a.test"],
    ],
    "wants the same port": [
      "a.test:5000/a",
      ["a.test", "*.test", "a.test:5001", "*.test:5000"],
      ["*.test:5000"],
    ],
    "wants no port where there is none": ["a.test/a", ["a.test:443"], []],
    // The kubelet takes a name without a slash for one at Docker Hub, and an earlier system looked up
    // bare hosts in its keyring: the login for Docker Hub went to each of them (pitfall H14).
    "never gives Docker Hub's login to another host": [
      "localhost:5000/library/debian",
      ["https://index.docker.io/v1/", "docker.io/library"],
      [],
    ],
  };
  for (const [fact, [repository, places, wanted]] of Object.entries(table)) {
    test(fact, () => {
      assert.deepEqual(placesFor(repository, places), wanted);
    });
  }

  test("gives the same login once", () => {
    const entries = ["gcr.io/a", "gcr.io"].map((place) => entry(place, "anna"));

    assert.deepEqual(loginsFor(parseRepository("gcr.io/a/b"), entries), [
      { identityToken: "anna" },
    ]);
  });

  test("gives a login without * to its own host alone", () => {
    const label = fc.stringMatching(/^[a-z0-9]{1,5}$/);
    const host = fc.tuple(label, label, fc.constantFrom("", ":80", ":5000")).map(([a, b, port]) => {
      return `${a}.${b}${port}`;
    });
    fc.assert(
      fc.property(host, host, label, (given, asked, path) => {
        const found = loginsFor({ registry: asked, path }, [entry(given)]);

        assert.equal(found.length, given === asked ? 1 : 0);
      }),
    );
  });

  test("takes linear time over a hostile pattern", () => {
    const registry = `${"a".repeat(63)}.test`;
    const match = (stars: number): void => {
      const pattern = `${"a*".repeat(stars)}b.test`;
      const entry = { registry: pattern, path: "", login: anna };
      const entries = Array.from({ length: 500 }, () => entry);
      assert.deepEqual(loginsFor({ registry, path: "a" }, entries), []);
    };
    assertLinear(match, 31);
  });
});
