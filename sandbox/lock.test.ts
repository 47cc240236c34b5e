import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { lockFolder } from "./lock.ts";
import { repositoryRoot } from "./paths.ts";

describe("lockFolder()", () => {
  test("lets one holder in at a time", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "lock-"));
    let inside = 0;
    let most = 0;
    const enter = async (): Promise<void> => {
      await using _lock = await lockFolder(folder.path, { timeoutMs: 30_000, signal });
      most = Math.max(most, ++inside);
      await new Promise(setImmediate);
      inside--;
    };
    await Promise.all([enter(), enter(), enter()]);

    assert.equal(most, 1);
  });

  test("takes over from a holder that was killed", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "lock-"));
    const program = `
      import { lockFolder } from "#sandbox/lock.ts";
      await lockFolder(${JSON.stringify(folder.path)}, { timeoutMs: 1000, signal: AbortSignal.timeout(9000) });
      console.log("held");
      setInterval(() => {}, 1000);`;
    const argv = ["--input-type=module", "-e", program];
    const holder = spawn(process.execPath, argv, {
      cwd: repositoryRoot,
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(holder.stdout, "data", { signal });
    const refused = lockFolder(folder.path, { timeoutMs: 300, signal });
    await assert.rejects(refused, /in vain for the lock/);
    holder.kill("SIGKILL");
    await once(holder, "close", { signal });

    await using _lock = await lockFolder(folder.path, { timeoutMs: 10_000, signal });
  });
});
