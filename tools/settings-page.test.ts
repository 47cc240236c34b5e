import assert from "node:assert/strict";
import { test } from "node:test";

import { choice, duration, optional, text } from "#config/settings.ts";
import { settingsPage } from "./settings-page.ts";

test("settingsPage() has a row for each setting, in the words of an operator", () => {
  const page = settingsPage([
    {
      role: "agent",
      settings: {
        timeoutMs: duration({ env: "CORAL_PULL_TIMEOUT", default: 600_000, help: "Wait." }),
        level: choice({ env: "CORAL_LOG", of: ["a", "b"], default: "a", help: "a | b." }),
        file: optional(text({ env: "CORAL_FILE", help: "File." })),
        nodeName: text({ env: "NODE_NAME", help: "Node." }),
      },
    },
  ]);

  assert.deepEqual(
    page.split("\n").slice(-8),
    [
      "## coral agent",
      "",
      "| variable | flag | value | default | meaning |",
      "|---|---|---|---|---|",
      '| `CORAL_PULL_TIMEOUT` | `--pull-timeout` | a number with a unit, like "90s" or "10m", of at most 24 days | `10m` | Wait. |',
      '| `CORAL_LOG` | `--log` | one of "a", "b" | `a` | a \\| b. |',
      "| `CORAL_FILE` | `--file` | a text | none | File. |",
      "| `NODE_NAME` | `--node-name` | a text | required | Node. |",
      "",
    ].slice(-8),
  );
});
