import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { jsonLog, type Log, type LogLevel } from "./log.ts";

function aLog(level: LogLevel = "debug"): { log: Log; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => {
    assert.ok(line.endsWith("\n"));
    lines.push(JSON.parse(line));
  };
  return { log: jsonLog({ level, write, now: () => new Date(0) }), lines };
}

const head = { time: "1970-01-01T00:00:00.000Z", level: "info" };

describe("jsonLog()", () => {
  test("writes a line per message, with the fields of its parents", () => {
    const { log, lines } = aLog();
    log.child({ controller: "image" }).child({ node: "n1" }).info("image pulled", { attempt: 2 });

    assert.deepEqual(lines, [
      { ...head, message: "image pulled", controller: "image", node: "n1", attempt: 2 },
    ]);
  });

  test("leaves out what is less severe than its level", () => {
    const { log, lines } = aLog("warn");
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");

    assert.deepEqual(
      lines.map(({ message }) => message),
      ["c", "d"],
    );
  });

  test("lets no field take the place of time, level or message", () => {
    const { log, lines } = aLog();
    log.info("true", { message: "false", level: "none", time: 0 });

    assert.deepEqual(lines, [{ ...head, message: "true" }]);
  });

  test("writes an error's name, message, code and causes, and its stack at level error only", () => {
    const { log, lines } = aLog();
    const cause = new TypeError("no route", { cause: "cable" });
    const error = Object.assign(new Error("cannot pull", { cause }), { code: "UNREACHABLE" });
    log.info("pull failed", { error });
    log.error("pull failed", { error });

    const description = {
      name: "Error",
      message: "cannot pull",
      code: "UNREACHABLE",
      causes: [
        { name: "TypeError", message: "no route" },
        { name: "string", message: "cable" },
      ],
    };
    assert.deepEqual(lines[0]?.["error"], description);
    assert.deepEqual(lines[1]?.["error"], { ...description, stack: error.stack });
  });

  test("writes at most 4 KiB of an error, whatever it holds", () => {
    const { log, lines } = aLog();
    let error = new Error("\u0001".repeat(100_000));
    for (let depth = 0; depth < 20; depth++) {
      error = new Error("\u0001".repeat(100_000), { cause: error });
    }
    log.error("failed", { error });

    assert.ok(Buffer.byteLength(JSON.stringify(lines[0]?.["error"])) <= 4_096);
  });

  test("survives an error that is its own cause", () => {
    const { log, lines } = aLog();
    const error = new Error("loop");
    error.cause = error;
    log.info("failed", { error });

    assert.deepEqual(lines[0]?.["error"], { name: "Error", message: "loop" });
  });

  test("writes the message even if a field cannot be written", () => {
    const { log, lines } = aLog();
    const circle: Record<string, unknown> = {};
    circle["self"] = circle;
    log.info("still here", { circle });

    assert.equal(lines[0]?.["message"], "still here");
    assert.match(String(lines[0]?.["unwritable"]), /circular/);
  });
});
