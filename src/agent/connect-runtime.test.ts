import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { RuntimeUnavailableError } from "#cri/rpc-error.ts";
import { silentLog } from "#telemetry/log.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { connectRuntime, socketPath } from "./connect-runtime.ts";

function allBut(silent: string) {
  return async (path: string): Promise<string> => {
    if (path === silent) throw new RuntimeUnavailableError("nobody there");
    return path;
  };
}

describe("connectRuntime()", () => {
  const clock = new ManualClock();
  const common = { clock, random: () => 0, log: silentLog };

  test("takes the first socket that answers", async ({ signal }) => {
    const connect = allBut("/a");
    const sockets = ["/a", "/b", "/c"];

    assert.equal(await connectRuntime({ ...common, sockets, connect }, { signal }), "/b");
  });

  test("tries on until there is a runtime", async ({ signal }) => {
    let isThere = false;
    const connect = async (path: string): Promise<string> => {
      if (!isThere) throw new RuntimeUnavailableError("nobody there");
      return path;
    };
    const connected = connectRuntime({ ...common, sockets: ["/a"], connect }, { signal });
    await clock.advance(60_000);
    isThere = true;
    await clock.advance(10_000);

    assert.equal(await connected, "/a");
  });

  test("rejects with the reason when aborted", async () => {
    const stop = new AbortController();
    const reason = new Error("enough");
    const connect = async (): Promise<string> => {
      stop.abort(reason);
      throw new RuntimeUnavailableError("nobody there");
    };
    const connected = connectRuntime({ ...common, sockets: ["/a"], connect }, stop);

    await assert.rejects(connected, reason);
  });
});

describe("socketPath()", () => {
  test("takes paths and URLs", () => {
    assert.equal(socketPath("unix:///run/x.sock"), "/run/x.sock");
    assert.equal(socketPath("/run/x.sock"), "/run/x.sock");
  });
});
