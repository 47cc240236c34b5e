import { execFileSync } from "node:child_process";
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What Coral calls or reads. Everything that these do not need stays out of the generated code. */
const types = [
  "runtime.v1.RuntimeService.Version",
  "runtime.v1.ImageService.ListImages",
  "runtime.v1.ImageService.ImageStatus",
  "runtime.v1.ImageService.PullImage",
  "runtime.v1.ImageService.RemoveImage",
  "runtime.v1.ImageService.ImageFsInfo",
  "containerd.services.content.v1.Content.ListStatuses",
  "containerd.services.content.v1.Content.Read",
  "containerd.services.events.v1.Events.Subscribe",
  "containerd.services.images.v1.ImageCreate",
  "containerd.services.images.v1.ImageUpdate",
  "containerd.services.images.v1.ImageDelete",
];

/** Fields of these types are left out too: Coral neither sets nor reads them. */
const excludedTypes = [
  "containerd.types.fieldpath",
  "containerd.types.fieldpath_all",
  "google.protobuf.Timestamp",
  "runtime.v1.DNSConfig",
  "runtime.v1.Int64Value",
  "runtime.v1.LinuxPodSandboxConfig",
  "runtime.v1.PodSandboxMetadata",
  "runtime.v1.PortMapping",
  "runtime.v1.WindowsPodSandboxConfig",
];

const pluginOptions = [
  "outputServices=generic-definitions",
  "enumsAsLiterals=true",
  "importSuffix=.ts",
  "outputJsonMethods=false",
  "useExactTypes=false",
  "useOptionals=messages",
  "forceLong=bigint", // ImageFsInfo's timestamp is in nanoseconds, which no double holds.
  "esModuleInterop=true",
  "env=node",
  "comments=false",
  "exportCommonSymbols=false",
  "annotateFilesWithVersion=false",
];

const generatedFolder = "src/cri/gen";

/** Takes the place of ts-proto's directive to a linter that is not used here. */
const directive = "/* eslint-disable */";
const reasons = [
  "// `as any` is ts-proto's: it keeps the depth of nesting on the reader, a bound against hostile messages, and",
  "// writes the keys of maps alike whatever their type. oxlint leaves this folder out.",
].join("\n");

/** Generates the codecs into `folder`. Needs no network: the plugin and every import are local. */
function generate(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const template = {
    version: "v2",
    inputs: [{ directory: "src/cri/proto", types, exclude_types: excludedTypes }],
    plugins: [
      {
        local: [process.execPath, "node_modules/ts-proto/protoc-gen-ts_proto"],
        out: folder,
        opt: pluginOptions,
      },
    ],
  };
  execFileSync(
    process.execPath,
    ["node_modules/@bufbuild/buf/bin/buf", "generate", "--template", JSON.stringify(template)],
    { stdio: "inherit", timeout: 60_000 },
  );
  for (const [name, text] of filesOf(folder)) {
    writeFileSync(join(folder, name), text.replace(directive, reasons));
  }
}

/** Paths below `folder` and their contents, to compare two folders. */
function filesOf(folder: string): Map<string, string> {
  const names = globSync("**/*.ts", { cwd: folder }).sort();
  return new Map(names.map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

/** Names of the files that differ between what is committed and what the protos yield now. */
function outdated(): string[] {
  const fresh = mkdtempSync(join(tmpdir(), "coral-cri-"));
  try {
    generate(fresh);
    const wanted = filesOf(fresh);
    const found = filesOf(generatedFolder);
    return [...new Set([...wanted.keys(), ...found.keys()])].filter(
      (name) => wanted.get(name) !== found.get(name),
    );
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

if (process.argv.includes("--check")) {
  for (const name of outdated()) {
    console.error(`${generatedFolder}/${name} is not what src/cri/proto yields`);
    process.exitCode = 1;
  }
} else {
  generate(generatedFolder);
}
