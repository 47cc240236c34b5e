import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import {
  boolean,
  choice,
  ConfigError,
  duration,
  flagOf,
  integer,
  list,
  optional,
  readConfig,
  text,
  type ConfigOf,
} from "./settings.ts";

const settings = {
  socket: text({ env: "CORAL_CRI_SOCKET", default: "/run/c.sock", help: "Socket." }),
  timeoutMs: duration({ env: "CORAL_PULL_TIMEOUT", default: 600_000, help: "Longest wait." }),
  concurrency: integer({ env: "CORAL_PULLS", min: 1, max: 32, default: 3, help: "Pulls." }),
  level: choice({ env: "CORAL_LOG", of: ["info", "debug"], default: "info", help: "Level." }),
  trace: boolean({ env: "CORAL_TRACE", default: false, help: "Tracing." }),
  file: optional(text({ env: "CORAL_FILE", help: "A file." })),
  nodeName: text({ env: "NODE_NAME", help: "The node, from the downward API." }),
};

describe("readConfig()", () => {
  test("takes defaults for what is not set, and freezes the result", () => {
    const config: ConfigOf<typeof settings> = readConfig(settings, { NODE_NAME: "n1" });

    assert.deepEqual(config, {
      socket: "/run/c.sock",
      timeoutMs: 600_000,
      concurrency: 3,
      level: "info",
      trace: false,
      file: undefined,
      nodeName: "n1",
    });
    assert.ok(Object.isFrozen(config));
  });

  test("reads variables in the program's units", () => {
    const config = readConfig(settings, {
      NODE_NAME: "n1",
      CORAL_PULL_TIMEOUT: "90s",
      CORAL_PULLS: "32",
      CORAL_LOG: "debug",
      CORAL_TRACE: "true",
      CORAL_FILE: "/etc/x",
    });
    const { timeoutMs, concurrency, level, trace, file } = config;

    assert.deepEqual(
      [timeoutMs, concurrency, level, trace, file],
      [90_000, 32, "debug", true, "/etc/x"],
    );
  });

  test("prefers flags, and a flag alone means true", () => {
    const env = { NODE_NAME: "n1", CORAL_CRI_SOCKET: "/a" };
    const config = readConfig(settings, env, ["--cri-socket=/b=c", "--trace"]);

    assert.deepEqual([config.socket, config.trace], ["/b=c", true]);
  });

  test("takes an empty variable for one that is not set", () => {
    const config = readConfig(settings, { NODE_NAME: "n1", CORAL_PULLS: "", CORAL_FILE: "" });

    assert.deepEqual([config.concurrency, config.file], [3, undefined]);
  });

  test("refuses a duration below the least that makes sense", () => {
    const everyMs = duration({ env: "CORAL_EVERY", minMs: 5_000, default: 60_000, help: "Every." });
    assert.throws(() => readConfig({ everyMs }, { CORAL_EVERY: "0s" }), {
      message: /CORAL_EVERY="0s": must be .* of at least 5 s and at most 24 days/,
    });
  });

  test("reads a list with commas, and refuses it for one bad item", () => {
    const digits = list({
      env: "CORAL_DIGITS",
      items: "digits",
      accepts: (item) => /^[0-9]$/.test(item),
      default: [],
      help: "Digits.",
    });
    assert.deepEqual(readConfig({ digits }, { CORAL_DIGITS: "1, 2,,3" }).digits, ["1", "2", "3"]);
    assert.throws(() => readConfig({ digits }, { CORAL_DIGITS: "1,x" }), {
      message: /CORAL_DIGITS="1,x": must be digits, separated by commas/,
    });
  });

  test("reports every problem at once, each on its line", () => {
    const env = { CORAL_PULL_TIMEOUT: "10", CORAL_PULLS: "0", CORAL_LOG: "loud" };
    const message = [
      "--nonsense is unknown: the flags are --cri-socket --file --log --node-name --pull-timeout --pulls --trace",
      "up is unknown: the flags are --cri-socket --file --log --node-name --pull-timeout --pulls --trace",
      'CORAL_PULL_TIMEOUT="10": must be a number with a unit, like "90s" or "10m", of at most 24 days',
      'CORAL_PULLS="0": must be a whole number from 1 to 32',
      'CORAL_LOG="loud": must be one of "info", "debug"',
      '--trace="yes": must be true or false',
      "NODE_NAME is required: The node, from the downward API.",
    ].join("\n");

    assert.throws(
      () => readConfig(settings, env, ["--nonsense=1", "up", "--trace=yes"]),
      (error) => error instanceof ConfigError && error.message === message,
    );
  });
});

test("duration() and integer() read only what they can mean", () => {
  const wait = duration({ env: "X", help: "X." });
  const number = integer({ env: "X", help: "X.", min: 0 });

  assert.deepEqual(
    ["1ms", "2s", "3m", "4h", "0s"].map((value) => wait.parse(value)),
    [1, 2_000, 180_000, 14_400_000, 0],
  );
  for (const bad of ["", "1", "s", "-1s", "1.5s", "1s ", "1d", "600h", "99999999999s"]) {
    assert.equal(wait.parse(bad), undefined, bad);
  }
  for (const bad of ["", " 1", "1e3", "0x10", "1.0", "-1", "9".repeat(16), "Infinity"]) {
    assert.equal(number.parse(bad), undefined, bad);
  }
});

test("a duration's format() is the inverse of its parse()", () => {
  const wait = duration({ env: "X", help: "X." });
  fc.assert(
    fc.property(fc.nat(2 ** 31 - 1), (ms) => {
      assert.equal(wait.parse(wait.format(ms)), ms);
    }),
  );
  assert.deepEqual(
    [90_000, 600_000, 0, 1_500].map((ms) => wait.format(ms)),
    ["90s", "10m", "0ms", "1500ms"],
  );
});

test("flagOf() drops Coral's prefix", () => {
  assert.deepEqual([settings.socket, settings.nodeName].map(flagOf), [
    "--cri-socket",
    "--node-name",
  ]);
});
