import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { mirrorCommand, type MirrorFlags } from "./mirror-flags.ts";

/** What a command line comes to, without a word to the terminal. */
async function flagsOf(...args: string[]): Promise<MirrorFlags | undefined> {
  let flags: MirrorFlags | undefined;
  const command = mirrorCommand(async (given) => {
    flags = given;
  });
  for (const each of [command, ...command.commands]) each.configureOutput({ writeErr: () => {} });
  await command.parseAsync(["run", ...args], { from: "user" });
  return flags;
}

describe("mirrorCommand()", () => {
  test("takes files and hosts several times", async () => {
    const flags = await flagsOf(
      "-f",
      "a",
      "--filename",
      "b",
      "--plain-http",
      "a.test:5000",
      "--plain-http=localhost",
    );

    assert.deepEqual(flags, {
      filename: ["a", "b"],
      plainHttp: ["a.test:5000", "localhost"],
      parallel: 8,
    });
  });

  test("takes all that there is", async () => {
    const line =
      "-f - --dry-run --report json --parallel 3 --refresh-referrers --insecure-skip-tls-verify a.test --ca-file ca.crt";
    const flags = await flagsOf(...line.split(" "));

    assert.deepEqual(flags, {
      filename: ["-"],
      dryRun: true,
      report: "json",
      parallel: 3,
      refreshReferrers: true,
      insecureSkipTlsVerify: ["a.test"],
      caFile: "ca.crt",
    });
  });

  const wrong: Record<string, [args: string[], message: RegExp]> = {
    "no file": [[], /required option '-f, --filename <file>' not specified/],
    "an unknown flag": [["-f", "-", "--dryrun"], /unknown option '--dryrun'/],
    "more than flags": [["-f", "-", "mirror.yaml"], /too many arguments/],
    "a number that is none": [
      ["-f", "-", "--parallel", "0"],
      /must be a whole number from 1 to 64/,
    ],
    "a host with a scheme": [["-f", "-", "--plain-http", "http://a.test"], /must be a host like/],
    "a host with a path": [["-f", "-", "--plain-http", "a.test/x"], /must be a host like/],
    "a report that there is not": [["-f", "-", "--report", "xml"], /Allowed choices are json/],
  };
  for (const [fact, [args, message]] of Object.entries(wrong)) {
    test(`refuses ${fact}`, async () => {
      await assert.rejects(flagsOf(...args), { name: "CommanderError", message });
    });
  }
});
