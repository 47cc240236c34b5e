import assert from "node:assert/strict";
import { mkdtempDisposable, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { jsonLog } from "#telemetry/log.ts";
import { aCertificate } from "#test/certificates.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { CertificateFiles } from "./certificate-files.ts";

async function write(
  folder: string,
  files: { cert: string; key: string; ca: string },
): Promise<void> {
  await Promise.all([
    writeFile(join(folder, "tls.crt"), files.cert),
    writeFile(join(folder, "tls.key"), files.key),
    writeFile(join(folder, "ca.crt"), files.ca),
  ]);
}

describe("CertificateFiles", () => {
  test("serves what is in the files, and what comes after it", async ({ signal }) => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-tls-"));
    const clock = new ManualClock();
    const lines: string[] = [];
    const log = jsonLog({ level: "warn", write: (line) => lines.push(line) });
    const files = new CertificateFiles({ folder: folder.path, clock, log });
    const stop = new AbortController();
    const scope = AbortSignal.any([signal, AbortSignal.timeout(20_000)]);
    const running = files.run(AbortSignal.any([scope, stop.signal]));
    const next = async (isSo: () => boolean): Promise<void> => {
      while (!isSo()) {
        scope.throwIfAborted();
        await clock.advance(30_000);
        await setImmediate();
      }
    };

    await next(() => lines.length > 0);
    assert.match(lines[0] ?? "", /ENOENT/);
    assert.equal(files.current(), undefined);

    const [first, second] = [aCertificate("a.test"), aCertificate("b.test")];
    await write(folder.path, first);
    await next(() => files.current()?.cert === first.cert);
    assert.equal(files.ca(), first.ca);

    let changes = 0;
    using _ = files.onChange(() => changes++);
    await write(folder.path, { ...second, key: first.key });
    await next(() => lines.some((line) => line.includes("must be the key of tls.crt")));
    assert.equal(files.current()?.cert, first.cert, "what was served before is served further");
    await write(folder.path, second);
    await next(() => files.current()?.cert === second.cert);
    await rm(join(folder.path, "ca.crt"));
    const told = lines.length;
    await next(() => lines.length > told);
    for (let look = 0; look < 5; look++) await clock.advance(30_000);

    assert.equal(changes, 1);
    assert.equal(lines.length, told + 1, "a fault is told once");
    assert.doesNotMatch(lines.join(), /PRIVATE KEY/);
    stop.abort();
    await running;
  });
});
