import { globSync } from "node:fs";
import { basename } from "node:path";

import type { Settings } from "#config/settings.ts";
import { putGenerated, root } from "./generated.ts";
import { settingsPage, type RoleSettings } from "./settings-page.ts";

/** Each role has one file, `<role>.config.ts`, which exports one table. */
async function readRole(path: string): Promise<RoleSettings> {
  const module: Record<string, unknown> = await import(root + path);
  const tables = Object.entries(module).filter(([name]) => name.endsWith("Settings"));
  const table = tables[0]?.[1];
  if (tables.length !== 1 || !isSettings(table)) {
    throw new TypeError(`${path} must export one table of settings, named …Settings`);
  }
  return { role: basename(path, ".config.ts"), settings: table };
}

function isSettings(value: unknown): value is Settings {
  if (typeof value !== "object" || value === null) return false;
  return Object.values(value).every(
    (setting: unknown) =>
      typeof setting === "object" && setting !== null && "env" in setting && "parse" in setting,
  );
}

const paths = globSync("src/cmd/*.config.ts", { cwd: root }).sort();
const roles = await Promise.all(paths.map(readRole));
await putGenerated(new Map([["docs/reference/settings.md", settingsPage(roles)]]));
