import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { mirrorProblems } from "./mirror-problems.ts";
import { mirrorKind, type MirrorSpec } from "./mirror.ts";

function aSpec(fields: object = {}): MirrorSpec {
  const spec = {
    registry: "registry.local:5000/mirror",
    repositories: [{ name: "debian", tags: ["12"] }],
    ...fields,
  };
  return mirrorKind.schema.parse({ spec }).spec;
}

function isForeign(text: string): boolean {
  return text.startsWith("oci:") || text === "host";
}

/** Problems as lines: the field, the value and what was expected. */
function problemsOf(spec: MirrorSpec): string[] {
  return mirrorProblems({ spec }).map(
    ({ path, value, message }) => `${path} "${value}" ${message}`,
  );
}

describe("mirrorProblems()", () => {
  test("finds nothing wrong with a Mirror that uses everything", () => {
    const spec = aSpec({
      tls: { caSecret: { name: "ca" } },
      pushSecret: { name: "push" },
      imagePullSecrets: [{ name: "a" }, { name: "b.c" }],
      repositories: [
        { name: "debian", tags: ["12", "13"] },
        { name: "localhost:5000/a", digests: [`sha256:${"0".repeat(64)}`] },
        { name: "ghcr.io/a/b", listSelection: "all", filter: { include: ["v.*"], semver: ">=1" } },
      ],
      platforms: ["linux/amd64", "linux/arm64/v8"],
      schedule: "0 3 * * 1-5",
      timeZone: "Europe/Berlin",
      removalPolicy: "Delete",
    });

    assert.deepEqual(problemsOf(spec), []);
  });

  const cases: Record<string, [fields: object, problem: RegExp | string]> = {
    "no repositories": [
      { repositories: [] },
      'spec.repositories "" must name at least one repository',
    ],
    "a registry without a host": [
      { registry: "mirror" },
      /^spec\.registry "mirror" must begin with a host/,
    ],
    "a prefix that is none": [
      { registry: "r.test/a--/b" },
      /^spec\.registry "r\.test\/a--\/b" must have parts of lower-case/,
    ],
    "a name with a tag": [
      { repositories: [{ name: "debian:12" }] },
      'spec.repositories[0].name "debian:12" must not have a tag',
    ],
    "a name in upper case": [
      { repositories: [{ name: "ghcr.io/A" }] },
      'spec.repositories[0].name "ghcr.io/A" must be in lower case before the tag',
    ],
    "two names of one repository": [
      { repositories: [{ name: "debian" }, { name: "index.docker.io/library/debian" }] },
      'spec.repositories[1].name "index.docker.io/library/debian" must not name docker.io/library/debian again, as spec.repositories[0].name does',
    ],
    "a tag that is there twice": [
      { repositories: [{ name: "debian", tags: ["1", "2", "1"] }] },
      'spec.repositories[0].tags[2] "1" must not be there again, as spec.repositories[0].tags[0] is',
    ],
    "tags besides all of them": [
      { repositories: [{ name: "debian", tags: ["1"], listSelection: "all" }] },
      'spec.repositories[0].listSelection "all" must go without tags and digests',
    ],
    "a filter of listed tags": [
      { repositories: [{ name: "debian", filter: { newest: 1 } }] },
      'spec.repositories[0].filter "" must go with listSelection "all"',
    ],
    "a filter that means nothing": [
      { repositories: [{ name: "debian", listSelection: "all", filter: { exclude: ["a", "("] } }] },
      /^spec\.repositories\[0\]\.filter\.exclude\[1\] "\(" must be a regular expression/,
    ],
    "more expressions than can be checked": [
      {
        repositories: Array.from({ length: 5 }, (_, n) => ({
          name: `r${n}`,
          listSelection: "all",
          filter: { include: Array.from({ length: 16 }, (_each, m) => `v${m}`) },
        })),
      },
      'spec.repositories "80 expressions" must have at most 64 regular expressions in all filters together',
    ],
    "a template with an unknown part": [
      { destination: "{tag}" },
      /^spec\.destination "\{tag\}" must have none but \{host\}/,
    ],
    "sources that land on one name": [
      { destination: "{name}", repositories: [{ name: "ghcr.io/a/x" }, { name: "quay.io/b/x" }] },
      'spec.repositories[1].name "quay.io/b/x" must not be copied to registry.local:5000/mirror/x, as ghcr.io/a/x is: change spec.destination, which is "{name}"',
    ],
    "a source that would be copied onto itself": [
      {
        registry: "Registry.local",
        destination: "{path}",
        repositories: [{ name: "ghcr.io/a/x" }, { name: "registry.local:443/b" }],
      },
      'spec.repositories[1].name "registry.local:443/b" must not be copied to Registry.local/b, which is copied from: change spec.destination, which is "{path}"',
    ],
    "a source that another is copied onto": [
      {
        destination: "{path}",
        repositories: [{ name: "ghcr.io/x" }, { name: "registry.local:5000/mirror/x" }],
      },
      'spec.repositories[0].name "ghcr.io/x" must not be copied to registry.local:5000/mirror/x, which is copied from: change spec.destination, which is "{path}"',
    ],
    "two hosts that only look different": [
      { repositories: [{ name: "GHCR.io/a" }, { name: "ghcr.io/a" }] },
      'spec.repositories[1].name "ghcr.io/a" must not name ghcr.io/a again, as spec.repositories[0].name does',
    ],
    "plain HTTP with a certificate": [
      { tls: { plainHTTP: true, caSecret: { name: "ca" } } },
      'spec.tls.plainHTTP "true" must go without caSecret and insecureSkipVerify',
    ],
    "a Secret that no Secret can be": [
      { pushSecret: { name: "Push" } },
      /^spec\.pushSecret\.name "Push" must be the name of a Secret/,
    ],
    "a Secret that is there twice": [
      { imagePullSecrets: [{ name: "a" }, { name: "a" }] },
      'spec.imagePullSecrets[1].name "a" must not be there again, as spec.imagePullSecrets[0].name is',
    ],
    "a platform that is there twice": [
      { platforms: ["linux/amd64", "linux/amd64"] },
      'spec.platforms[1] "linux/amd64" must not be there again, as spec.platforms[0] is',
    ],
    "interval and schedule": [
      { interval: "1h", schedule: "@daily" },
      'spec.schedule "@daily" must not be there together with interval',
    ],
    "an interval of nothing": [
      { interval: "0h" },
      'spec.interval "0h" must be one minute at least, like "30m"',
    ],
    "an interval that is too short": [
      { interval: "59s" },
      'spec.interval "59s" must be one minute at least, like "30m"',
    ],
    "a schedule that is none": [
      { schedule: "every day" },
      /^spec\.schedule "every day" must be five fields of cron/,
    ],
    "a schedule that is never due": [
      { schedule: "0 0 30 2 *" },
      'spec.schedule "0 0 30 2 *" must be due at some time, and there is no such day',
    ],
    "a time zone without schedule": [
      { timeZone: "Europe/Berlin" },
      'spec.timeZone "Europe/Berlin" must go with schedule',
    ],
    "a time zone that is none": [
      { schedule: "@daily", timeZone: "Berlin" },
      'spec.timeZone "Berlin" must be the name of a time zone, like "Europe/Berlin"',
    ],
  };
  for (const [fact, [fields, problem]] of Object.entries(cases)) {
    test(`tells of ${fact}`, () => {
      const [found = "", ...others] = problemsOf(aSpec(fields));

      if (typeof problem === "string") assert.equal(found, problem);
      else assert.match(found, problem);
      assert.deepEqual(others, []);
    });
  }

  test("tells of everything at once", () => {
    const spec = aSpec({
      registry: "mirror",
      repositories: [{ name: "a:b" }, { name: "A" }, { name: "x", tags: ["1", "1"] }],
      schedule: "never",
      timeZone: "nowhere",
    });

    assert.equal(problemsOf(spec).length, 6);
  });

  test("leaves alone what somebody else looks at", () => {
    const spec = aSpec({ registry: "host", repositories: [{ name: "oci:x" }, { name: "oci:x" }] });

    assert.deepEqual(
      mirrorProblems({ spec }, { isForeign }).map(({ message }) => message),
      ["must not name oci:x again, as spec.repositories[0].name does"],
    );
  });
});
