import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { formatProblem, mirrorNotes, parseMirrorFiles } from "./mirror-file.ts";

const good = `apiVersion: stvz.io/v1
kind: Mirror
metadata: { name: web, namespace: shop }
spec:
  registry: registry.local:5000/mirror
  repositories:
    - { name: debian, tags: ["12"] }
    - name: ghcr.io/a/b
      listSelection: all
      filter: { newest: 3 }
`;

function problemsOf(text: string, name = "mirror.yaml"): string[] {
  return parseMirrorFiles([{ name, text }]).problems.map(formatProblem);
}

describe("parseMirrorFiles()", () => {
  test("reads Mirrors with their defaults, and leaves out other kinds", () => {
    const text = `${good}---\nkind: Secret\napiVersion: v1\n---\n---\n${good.replace("web", "other")}`;
    const { mirrors, problems, notes } = parseMirrorFiles([{ name: "mirror.yaml", text }]);

    assert.deepEqual(problems, []);
    assert.deepEqual(notes, ['mirror.yaml:12: "Secret" is left out: only Mirrors are copied']);
    assert.deepEqual(
      mirrors.map(({ name, namespace, spec }) => [name, namespace, spec.destination]),
      [
        ["web", "shop", "{host}/{path}"],
        ["other", "shop", "{host}/{path}"],
      ],
    );
    assert.deepEqual(mirrors[0]?.spec.repositories[0], {
      name: "debian",
      tags: ["12"],
      listSelection: "listed",
    });
  });

  test("takes OCI layouts on both sides", () => {
    const text = good
      .replace("registry.local:5000/mirror", "oci:./carry")
      .replace("name: debian", "name: oci:/srv/images:ghcr.io/c/d")
      .replace("ghcr.io/a/b", "oci:images");
    const { mirrors, problems } = parseMirrorFiles([{ name: "mirror.yaml", text }]);

    assert.deepEqual(problems, []);
    assert.equal(mirrors[0]?.spec.registry, "oci:./carry");
  });

  const cases: Record<string, [text: string, problems: (string | RegExp)[]]> = {
    "an empty file": ["", ["mirror.yaml:1: must hold a Mirror, and is empty"]],
    "a file of comments": ["# nothing\n---\n", ["mirror.yaml:1: must hold a Mirror, and is empty"]],
    "no YAML": ["a: [b\n", [/^mirror\.yaml:2: .*end with a \]/]],
    "a key that is there twice": [
      "kind: Mirror\nkind: Mirror\n",
      [/^mirror\.yaml:2: Map keys must/],
    ],
    "a list": ["- a\n- b\n", ["mirror.yaml:1: must be an object with fields"]],
    "aliases that explode": [
      `a: &a [x, x, x, x, x, x, x, x, x]\n${["b", "c", "d", "e"]
        .map(
          (key, at) =>
            `${key}: &${key} [${Array.from({ length: 9 }, () => `*${"abcd"[at]}`).join(", ")}]\n`,
        )
        .join("")}`,
      ["mirror.yaml:1: must be an object with fields"],
    ],
    "no kind": [
      "apiVersion: stvz.io/v1\n",
      ['mirror.yaml:1: kind must be there: "Mirror", with apiVersion "stvz.io/v1"'],
    ],
    "another version": [
      good.replace("stvz.io/v1", "stvz.io/v2"),
      ['mirror.yaml:1: Mirror "web": apiVersion "stvz.io/v2" must be "stvz.io/v1"'],
    ],
    "no name": [
      good.replace("name: web, ", ""),
      ['mirror.yaml:3: metadata.name must be a name of lower-case letters, digits, "-" and "."'],
    ],
    "no spec": [
      good.slice(0, good.indexOf("spec:")),
      ['mirror.yaml:1: Mirror "web": spec.registry must be there'],
    ],
    "a field that is misspelt": [
      good.replace("registry:", "registery:"),
      [
        'mirror.yaml:5: Mirror "web": spec.registery "registry.local:5000/mirror" must be a field that there is: perhaps "registry"',
        'mirror.yaml:5: Mirror "web": spec.registry must be there',
      ],
    ],
    "a field deep down": [
      good.replace("newest", "newst"),
      [
        'mirror.yaml:10: Mirror "web": spec.repositories[1].filter.newst "3" must be a field that there is: perhaps "newest"',
      ],
    ],
    "a field beside spec": [
      `${good}repositories: []\n`,
      [
        'mirror.yaml:11: Mirror "web": repositories "[]" must be a field that there is: apiVersion, kind, metadata, spec',
      ],
    ],
    "a tag that is a number": [
      good.replace('"12"', "12"),
      [
        'mirror.yaml:7: Mirror "web": spec.repositories[0].tags[0] "12" must be text: put it in quotes',
      ],
    ],
    "a word that is none of those": [
      good.replace("all", "every"),
      [
        'mirror.yaml:9: Mirror "web": spec.repositories[1].listSelection "every" must be one of "listed", "all"',
      ],
    ],
    "a number out of bounds": [
      good.replace("newest: 3", "newest: 0"),
      [
        'mirror.yaml:10: Mirror "web": spec.repositories[1].filter.newest "0" must be a whole number from 1 to 100',
      ],
    ],
    "sources that collide": [
      good.replace("  repositories:", '  destination: "x"\n  repositories:'),
      [
        'mirror.yaml:9: Mirror "web": spec.repositories[1].name "ghcr.io/a/b" must not be copied to registry.local:5000/mirror/x, as docker.io/library/debian is: change spec.destination, which is "x"',
      ],
    ],
    "a layout without a folder": [
      good.replace("ghcr.io/a/b", "'oci:'"),
      [
        'mirror.yaml:8: Mirror "web": spec.repositories[1].name "oci:" must have a folder after "oci:", like "oci:./images"',
      ],
    ],
    "a destination in a layout": [
      good.replace("registry.local:5000/mirror", "oci:x\n  destination: '{name}'"),
      [
        'mirror.yaml:6: Mirror "web": spec.destination "{name}" must be left out: in a layout, copies keep the names of their sources',
      ],
    ],
    "the same Mirror twice": [
      `${good}---\n${good}`,
      [
        'mirror.yaml:14: Mirror "web": metadata.name "web" must not be there again, as in mirror.yaml:1',
      ],
    ],
    "everything at once": [
      good
        .replace('["12"]', '["12", "-"], interval: 1h')
        .replace("registry.local:5000/mirror", "local\n  interval: often")
        .replace("ghcr.io/a/b", "GHCR/a"),
      [
        /:6: Mirror "web": spec\.interval "often" must be hours/,
        /:8: Mirror "web": spec\.repositories\[0\]\.tags\[1\] "-" must be a tag/,
        /:8: Mirror "web": spec\.repositories\[0\]\.interval "1h" must be a field that there is: name, tags/,
        /:5: Mirror "web": spec\.registry "local" must begin with a host/,
        /:9: Mirror "web": spec\.repositories\[1\]\.name "GHCR\/a" must/,
      ],
    ],
  };
  for (const [fact, [text, expected]] of Object.entries(cases)) {
    test(`tells of ${fact}`, () => {
      const found = problemsOf(text);

      assert.equal(found.length, expected.length, found.join("\n"));
      for (const [index, wanted] of expected.entries()) {
        if (typeof wanted === "string") assert.equal(found[index], wanted);
        else assert.match(found[index] ?? "", wanted);
      }
    });
  }
});

describe("docs/mirroring.md", () => {
  test("has manifests that can be used, and problems as they are told", async () => {
    const path = join(import.meta.dirname, "../../docs/mirroring.md");
    const page = await readFile(path, "utf8");
    const manifests = [...page.matchAll(/```yaml\n([^`]*)```/g)].map(([, text = ""]) => text);
    const mirror = manifests.find((text) => text.startsWith("# mirror.yaml")) ?? "";
    const slips = mirror
      .replace(/filter: .*/, "filtr: {}")
      .replace('tags: ["12", "13"]', "tags: [12]")
      .replace(/ +listSelection: all.*\n/, "");

    assert.equal(manifests.length, 4);
    for (const text of manifests) assert.deepEqual(problemsOf(text), []);
    for (const problem of problemsOf(slips)) assert.ok(page.includes(`${problem}\n`), problem);
  });
});

describe("mirrorNotes()", () => {
  test("says what is not done without a cluster", () => {
    const text = `${good}  pushSecret: { name: a }\n  imagePullSecrets: [{ name: b }]\n  tls: { caSecret: { name: c } }\n  removalPolicy: Delete\n  suspend: true\n`;
    const { mirrors, problems } = parseMirrorFiles([{ name: "mirror.yaml", text }]);

    assert.deepEqual(problems, []);
    assert.deepEqual(mirrors.flatMap(mirrorNotes), [
      'Mirror "web": pushSecret and imagePullSecrets cannot be read here: your own registry logins are used',
      'Mirror "web": tls.caSecret cannot be read here: give the certificates by --ca-file if need be',
      'Mirror "web": removalPolicy Delete is left to the cluster: nothing is removed',
      'Mirror "web": it is suspended, and left out',
    ]);
  });
});
