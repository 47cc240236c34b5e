import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { MirrorUser } from "#test/mirror-command.ts";

const mirror = `apiVersion: stvz.io/v1
kind: Mirror
metadata: { name: web }
spec:
  registry: 127.0.0.1:1
  repositories: [{ name: 127.0.0.1:1/app, tags: ["1"] }]
`;

describe("coral mirror run", () => {
  test("explains itself, with examples and exit codes", async () => {
    await using user = await MirrorUser.make();
    const { exitCode, stdout, stderr } = await user.run(["--help"]);

    assert.equal(exitCode, 0);
    assert.equal(stderr, "");
    assert.match(stdout, /^Usage: coral mirror run \[options\]$/m);
    assert.match(stdout, /^ {2}coral mirror run -f mirror\.yaml --dry-run/m);
    assert.match(stdout, /^Exit codes: 0 all in step/m);
  });

  test("ends with 2 after a wrong flag, and says which", async () => {
    await using user = await MirrorUser.make();
    const { exitCode, stdout, stderr } = await user.run(["-f", "-", "--dryrun"], mirror);

    assert.equal(exitCode, 2, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, /unknown option '--dryrun'/);
    assert.match(stderr, /^See "coral mirror run --help"\.$/m);
  });

  test("ends with 2 after certificates that are none", async () => {
    await using user = await MirrorUser.make();
    const { exitCode, stderr } = await user.run(["-f", "-", "--ca-file", "/dev/null"], mirror);

    assert.equal(exitCode, 2, stderr);
    assert.match(stderr, /^--ca-file "\/dev\/null" must hold certificates in PEM$/m);
  });

  test("tells of a wrong file in a report as well", async () => {
    await using user = await MirrorUser.make();
    const { exitCode, stdout } = await user.run(["-f", "-", "--report", "json"], "kind: Mirror\n");

    assert.equal(exitCode, 2);
    assert.match(
      JSON.stringify(JSON.parse(stdout)),
      /^\{"version":1,"problems":\[\{.*"file":"stdin"/,
    );
  });

  test("leaves out what is suspended, and says so", async () => {
    await using user = await MirrorUser.make();
    const { exitCode, stdout, stderr } = await user.run(["-f", "-"], `${mirror}  suspend: true\n`);

    assert.equal(exitCode, 0, stderr);
    assert.match(stderr, /^note: Mirror "web": it is suspended, and left out$/m);
    assert.match(stdout, /^0 copied, 0 unchanged/m);
  });

  test("ends with 1 and says what to do when a helper for logins is not there", async () => {
    await using user = await MirrorUser.make();
    await user.write(".docker/config.json", JSON.stringify({ credsStore: "nowhere" }));
    const text = mirror.replace("registry: 127.0.0.1:1", "registry: 127.0.0.1:2");
    const { exitCode, stdout, stderr } = await user.run(["-f", "-"], text);

    assert.equal(exitCode, 1, stderr);
    assert.match(
      stdout,
      /^failed 127\.0\.0\.1:1\/app: HELPER_NOT_FOUND: cannot get the login for "127\.0\.0\.1:1": "docker-credential-nowhere"/m,
    );
  });
});
