import { flagOf, type Setting, type Settings } from "#config/settings.ts";

/** A role and what can be set for it. */
export interface RoleSettings {
  /** The subcommand: `agent` for `coral agent`. */
  role: string;
  settings: Settings;
}

/** Makes the reference page of settings, in Markdown. */
export function settingsPage(roles: readonly RoleSettings[]): string {
  return [
    "<!-- Generated from src/cmd/*.config.ts by tools/generate-settings.ts, do not edit. -->",
    "",
    "# Settings",
    "",
    "Each can be given as an environment variable or as a flag, like `--log-level=debug`; the flag wins. An empty variable counts as not set.",
    ...roles.flatMap(({ role, settings }) => [
      "",
      `## coral ${role}`,
      "",
      "| variable | flag | value | default | meaning |",
      "|---|---|---|---|---|",
      ...Object.values(settings).map(row),
    ]),
    "",
  ].join("\n");
}

function row(setting: Setting<unknown>): string {
  const cells = [
    `\`${setting.env}\``,
    `\`${flagOf(setting)}\``,
    setting.expects.replace(/^must be /, ""),
    defaultOf(setting),
    setting.help,
  ];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}

function defaultOf(setting: Setting<unknown>): string {
  if (!("default" in setting)) return "required";
  return setting.default === undefined ? "none" : `\`${setting.format(setting.default)}\``;
}
