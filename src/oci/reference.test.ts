import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { assertLinear } from "#test/cost.ts";
import {
  formatReference,
  InvalidReferenceError,
  normalizeReference,
  parseDigest,
  parseReference,
  parseRepository,
  parseTag,
  referenceLabel,
  type Reference,
} from "./reference.ts";

const sha256 = `sha256:${"0a".repeat(32)}`;
const sha512 = `sha512:${"0b".repeat(64)}`;
const hex64 = "abcdef0123456789".repeat(4);

const normalForms = {
  debian: "docker.io/library/debian:latest",
  "debian:bookworm": "docker.io/library/debian:bookworm",
  "library/debian": "docker.io/library/debian:latest",
  "docker.io/debian": "docker.io/library/debian:latest",
  "index.docker.io/debian": "docker.io/library/debian:latest",
  "index.docker.io/bitnami/redis:7": "docker.io/bitnami/redis:7",
  "docker.io:443/debian": "docker.io:443/debian:latest",
  "bitnami/redis": "docker.io/bitnami/redis:latest",
  "a/b/c": "docker.io/a/b/c:latest",
  "ghcr.io/org/app:v1.2-rc.1_x": "ghcr.io/org/app:v1.2-rc.1_x",
  "quay.io/app": "quay.io/app:latest",
  localhost: "docker.io/library/localhost:latest",
  "localhost:5000": "docker.io/library/localhost:5000",
  "localhost/app": "localhost/app:latest",
  "localhost:5000/app": "localhost:5000/app:latest",
  "registry:5000/app:1": "registry:5000/app:1",
  "registry/app": "docker.io/registry/app:latest",
  "10.0.0.1/app": "10.0.0.1/app:latest",
  "[::1]:5000/app:1": "[::1]:5000/app:1",
  "[2001:DB8::1]/app": "[2001:DB8::1]/app:latest",
  "GHCR.io/org/app": "GHCR.io/org/app:latest",
  "Registry:5000/app": "Registry:5000/app:latest",
  "xn--bcher-kva.example/app": "xn--bcher-kva.example/app:latest",
  "a__b/c": "docker.io/a__b/c:latest",
  "a---b.c_d": "docker.io/library/a---b.c_d:latest",
  [`debian@${sha256}`]: `docker.io/library/debian@${sha256}`,
  [`debian@${sha512}`]: `docker.io/library/debian@${sha512}`,
  [`debian:bookworm@${sha256}`]: `docker.io/library/debian:bookworm@${sha256}`,
  [`docker.io/library/${hex64}`]: `docker.io/library/${hex64}:latest`,
  [hex64.slice(1)]: `docker.io/library/${hex64.slice(1)}:latest`,
  [`debian:_${"x".repeat(127)}`]: `docker.io/library/debian:_${"x".repeat(127)}`,
  [`ghcr.io/${"a".repeat(247)}`]: `ghcr.io/${"a".repeat(247)}:latest`,
};

const refusals = {
  "nothing at all": ["", /begin with a name/],
  "a tag alone": [":1", /begin with a name/],
  "a digest alone": [`@${sha256}`, /begin with a name/],
  "an empty tag": ["debian:", /tag of 1 to 128/],
  "an empty digest": ["debian@", /digest of "sha256:"/],
  "an empty first part": ["/debian", /empty part/],
  "an empty middle part": ["ghcr.io//debian", /empty part/],
  "an empty last part": ["ghcr.io/org/", /empty part/],
  "a host alone": ["ghcr.io/", /empty part/],
  "upper case in the path": ["ghcr.io/Org/app", /lower case/],
  "upper case in a short name": ["Debian", /lower case/],
  "an upper-case first part without dot or port": ["Org/app", /lower case/],
  "a 64-hex name": [hex64, /image id/],
  "a 64-hex name with a tag": [`${hex64}:1`, /image id/],
  "a part that begins with a separator": ["a/-b", /joined by/],
  "a part that ends with a separator": ["a/b.", /joined by/],
  "two dots together": ["a/b..c", /joined by/],
  "three underscores together": ["a/b___c", /joined by/],
  "two different separators together": ["a/b._c", /joined by/],
  "a space": ["a b", /joined by/],
  "a newline at the end": ["debian\n", /joined by/],
  "a newline after the tag": ["debian:1\n", /tag of/],
  "a letter outside ASCII": ["débian", /joined by/],
  "a scheme": ["https://ghcr.io/app", /host like/],
  "a host that begins with a dash": ["-a.io/app", /host like/],
  "a host with an empty label": ["a..io/app", /host like/],
  "a host with an underscore": ["a_b.io/app", /host like/],
  "a host with an empty port": ["ghcr.io:/app", /host like/],
  "a port of letters": ["ghcr.io:http/app", /host like/],
  "a user before the host": ["user:secret@ghcr.io/app", /digest of/],
  "an IPv6 address without brackets": ["::1/app", /host like/],
  "an IPv6 address with a zone": ["[fe80::1%25eth0]:5000/app", /host like/],
  "an IPv6 address in brackets that do not close": ["[::1/app", /host like/],
  "a tag that begins with a dot": ["debian:.1", /tag of/],
  "a tag that is too long": [`debian:${"x".repeat(129)}`, /tag of/],
  "two tags": ["debian:1:2", /joined by/],
  "a digest of another algorithm": [`debian@sha384:${"0".repeat(96)}`, /digest of/],
  "a digest that is too short": [`debian@${sha256.slice(0, -1)}`, /digest of/],
  "a sha512 digest of sha256's length": [`debian@sha512:${"0".repeat(64)}`, /digest of/],
  "a digest in upper case": [`debian@sha256:${"A".repeat(64)}`, /digest of/],
  "two digests": [`debian@${sha256}@${sha256}`, /digest of/],
  "a tag after the digest": [`debian@${sha256}:1`, /digest of/],
  "a name that is too long": [`ghcr.io/${"a".repeat(248)}`, /at most 255/],
  "a text that is too long": ["a".repeat(4_097), /at most 4096/],
} satisfies Record<string, [string, RegExp]>;

describe("parseReference()", () => {
  for (const [text, normal] of Object.entries(normalForms)) {
    test(`reads ${text.slice(0, 60)} as ${normal.slice(0, 60)}`, () => {
      assert.equal(formatReference(parseReference(text)), normal);
    });
  }

  for (const [what, [text, reason]] of Object.entries(refusals)) {
    test(`refuses ${what}`, () => {
      assert.throws(() => parseReference(text), { code: "INVALID_REFERENCE", text, reason });
    });
  }

  test("quotes the beginning of the text in its error", () => {
    assert.throws(() => parseReference("a\nb"), {
      message: /^Cannot parse image name "a\\nb": must have parts of/,
    });
    assert.throws(
      () => parseReference("A".repeat(1_000_000)),
      (error: Error) => error.message.length < 250,
    );
  });

  test("is the inverse of formatReference()", () => {
    fc.assert(
      fc.property(aReference, (reference) => {
        assert.deepEqual(parseReference(formatReference(reference)), reference);
      }),
    );
  });

  test("throws nothing but InvalidReferenceError, and what it accepts is stable", () => {
    const characters = fc.constantFrom(
      ...Array.from("aA0./:@-_[]% \n"),
      "sha256:",
      sha256,
      "docker.io",
      "é",
    );
    const texts = fc.oneof(
      fc.string({ unit: "binary-ascii" }),
      fc.array(characters, { maxLength: 12 }).map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(texts, (text) => {
        const normal = normalizedOrUndefined(text);
        if (normal !== undefined) assert.equal(normalizeReference(normal), normal);
      }),
      { numRuns: 2_000 },
    );
  });

  test("refuses hostile texts in linear time", () => {
    const hostile = ["a", "a.", "a-", "-", "a/", ":", "@", "a_", "[:", "0.", "A", "\u0000"];
    const ends = ["!", "", "/!", ":!", `@${"a".repeat(60)}`];
    for (const unit of hostile) {
      const refuse = (size: number): void => {
        for (const end of ends) normalizedOrUndefined(`${unit.repeat(size)}${end}`);
      };
      assertLinear(refuse, 4_000, unit);
    }
  });
});

describe("parseRepository()", () => {
  test("reads a name without tag or digest", () => {
    assert.deepEqual(parseRepository("debian"), { registry: "docker.io", path: "library/debian" });
    assert.deepEqual(parseRepository("[::1]:5000/a"), { registry: "[::1]:5000", path: "a" });
  });

  test("refuses a tag and a digest", () => {
    assert.throws(() => parseRepository("debian:1"), { reason: "must not have a tag" });
    assert.throws(() => parseRepository("localhost:5000"), { reason: "must not have a tag" });
    assert.throws(() => parseRepository(`a@${sha256}`), { reason: "must not have a digest" });
  });

  test("refuses what parseReference() refuses", () => {
    assert.throws(() => parseRepository(hex64), InvalidReferenceError);
    assert.throws(() => parseRepository("a".repeat(5_000)), { reason: /at most 4096/ });
  });
});

test("parseTag() and parseDigest() check a part by itself", () => {
  assert.equal(parseTag("v1"), "v1");
  assert.equal(parseDigest(sha512), sha512);
  assert.throws(() => parseTag("a/b"), InvalidReferenceError);
  assert.throws(() => parseDigest("v1"), InvalidReferenceError);
});

describe("referenceLabel()", () => {
  test("is the MD5 of the normalised form, the same for every spelling", () => {
    const label = hash("md5", "docker.io/library/debian:latest");

    assert.deepEqual(["debian", "index.docker.io/debian:latest"].map(referenceLabel), [
      label,
      label,
    ]);
    assert.match(label, /^[0-9a-f]{32}$/);
  });
});

const word = fc.stringMatching(/^[a-z0-9]{1,12}$/);
const component = fc
  .array(fc.tuple(fc.constantFrom(".", "_", "__", "-", "---"), word), { maxLength: 3 })
  .chain((rest) => word.map((first) => first + rest.flat().join("")));
const host = fc.oneof(
  fc.constantFrom("localhost", "[::1]", "[2001:db8::1]:5000", "10.0.0.1", "docker.io"),
  fc.tuple(word, word).map(([name, zone]) => `${name.toUpperCase()}.${zone}`),
  fc.tuple(word, fc.nat(65_535)).map(([name, port]) => `${name}:${port}`),
);
const hexDigits = (length: number): fc.Arbitrary<string> =>
  fc
    .array(fc.constantFrom(...Array.from("0123456789abcdef")), {
      minLength: length,
      maxLength: length,
    })
    .map((digits) => digits.join(""));
const tag = fc.stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$/);
const digest = fc.oneof(
  hexDigits(64).map((hex) => `sha256:${hex}`),
  hexDigits(128).map((hex) => `sha512:${hex}`),
);
const repository = fc
  .tuple(host, fc.array(component, { minLength: 1, maxLength: 3 }))
  .map(([registry, parts]) => {
    const path = parts.join("/");
    const isShort = registry === "docker.io" && parts.length === 1;
    return { registry, path: isShort ? `library/${path}` : path };
  });
const aReference: fc.Arbitrary<Reference> = fc
  .tuple(
    repository,
    fc.oneof(fc.record({ tag }), fc.record({ digest }), fc.record({ tag, digest })),
  )
  .map(([name, version]) => ({ ...name, ...version }));

function normalizedOrUndefined(text: string): string | undefined {
  try {
    return normalizeReference(text);
  } catch (error) {
    assert.ok(error instanceof InvalidReferenceError);
    return undefined;
  }
}
