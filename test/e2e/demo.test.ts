import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";

import { Layout } from "#sandbox/layout.ts";
import { repositoryRoot } from "#sandbox/paths.ts";
import { remainsOf } from "#sandbox/tear-down.ts";

const nothing = { processes: [], namespaces: [], cgroups: [], mounts: [], folders: [] };
/** A name of its own: a demo that somebody left up must stay up. */
const name = `d${process.pid}`;

describe("npm run demo", { timeout: 10 * 60_000 }, () => {
  test("shows images arriving until Ready, and both times to running, without a terminal", async ({
    signal,
  }) => {
    const { child, output } = startDemo(signal);
    const [exitCode] = await once(child, "close");
    const shown = await output;

    assert.equal(exitCode, 0, shown);
    for (const node of ["node1", "node2", "node3"]) {
      for (const image of ["library/hello:1", "library/multi:1", "library/node:26"]) {
        assert.match(shown, new RegExp(`${node} +${image} +available`));
      }
    }
    assert.match(shown, /the Image is Ready on all nodes after \d/);
    assert.match(shown, /image prefetched by Coral +[\d.]+ s to running/);
    assert.match(shown, /image pulled by the kubelet +[\d.]+ s to running/);
    assert.deepEqual(await remainsOf(new Layout(name)), nothing);
  });

  for (const [moment, sign] of [
    ["while the cluster starts", /cluster of 3 nodes/],
    ["while Coral is installed", /from the manifests/],
    ["while images arrive", /node1 +library\/hello:1/],
  ] as const) {
    test(`leaves nothing behind when interrupted ${moment}`, async ({ signal }) => {
      const { child, output } = startDemo(signal);
      let seen = "";
      child.stdout?.on("data", (chunk: Buffer) => {
        if (sign.test(seen)) return;
        seen += chunk.toString();
        if (sign.test(seen)) child.kill("SIGINT");
      });
      const [exitCode] = await once(child, "close");

      assert.equal(exitCode, 130, await output);
      assert.match(await output, sign);
      assert.deepEqual(await remainsOf(new Layout(name)), nothing);
    });
  }
});

function startDemo(signal: AbortSignal): { child: ChildProcess; output: Promise<string> } {
  const child = spawn(process.execPath, ["sandbox/demo/main.ts", "--name", name], {
    cwd: repositoryRoot,
    stdio: ["ignore", "pipe", "inherit"],
    signal,
  });
  return { child, output: text(child.stdout) };
}
