import { createHash } from "node:crypto";
import { cp, link, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { build, type OutputFile } from "esbuild";

import packageJson from "#package.json" with { type: "json" };
import { repositoryRoot } from "#sandbox/paths.ts";
import { cachedFolder } from "./cached-image.ts";
import { ImageLayout, type Layer } from "./image-layout.ts";
import { ensureNodeRoots } from "./node-roots.ts";

type Scope = { signal: AbortSignal };

/** Coral's own image, as an OCI image layout. */
export interface CoralImage {
  folder: string;
  /** Compressed size of all layers: what a node downloads. */
  sizeBytes: number;
  /** Size of the files that are Coral. */
  bundleBytes: number;
}

/**
 * Makes Coral's image without a daemon: the C libraries, Node and the bundle. It has no shell and no
 * package manager. The layers below the bundle are made once and kept.
 */
export async function buildCoralImage({ signal }: Scope): Promise<CoralImage> {
  const bundle = await bundleCoral();
  const base = await ensureBase({ signal });
  const layers = parseLayers(await readFile(join(base, "layers.json"), "utf8"));
  const { version } = packageJson;
  const key = ["2", version, base, hashOf(bundle)];
  const assemble = async (folder: string): Promise<void> => {
    const layout = await ImageLayout.create(folder);
    for (const name of await readdir(join(base, "blobs/sha256"))) {
      await link(join(base, "blobs/sha256", name), join(folder, "blobs/sha256", name));
    }
    const root = join(folder, "app-root");
    await mkdir(join(root, "app"), { recursive: true });
    for (const { path, contents } of bundle) {
      await writeFile(join(root, "app", basename(path)), contents);
    }
    await writeFile(join(root, "app/package.json"), '{"type":"module"}'); // Else Node parses it twice.
    await cp(join(repositoryRoot, "LICENSE"), join(root, "app/LICENSE"));
    const app = await layout.addLayer(root, { signal });
    await rm(root, { recursive: true });
    const architecture = process.arch === "arm64" ? "arm64" : "amd64";
    const image = await layout.addImage(
      [...layers, app],
      { os: "linux", architecture },
      {
        Entrypoint: ["/usr/local/bin/node", ...nodeFlags, "/app/coral.js"],
        Env: ["NODE_ENV=production", "PATH=/usr/local/bin", `CORAL_VERSION=${version}`],
        User: "65532:65532",
        WorkingDir: "/app",
        Labels: {
          "org.opencontainers.image.title": "coral",
          "org.opencontainers.image.version": version,
          "org.opencontainers.image.licenses": "Apache-2.0",
        },
      },
    );
    await layout.finish([image]);
    const sizeBytes = [...layers, app].reduce((sum, { descriptor }) => sum + descriptor.size, 0);
    await writeFile(join(folder, "size.json"), JSON.stringify(sizeBytes));
  };
  const folder = await cachedFolder("coral", key, assemble, { signal });
  const sizeBytes = Number(await readFile(join(folder, "size.json"), "utf8"));
  const bundleBytes = bundle.reduce((sum, { contents }) => sum + contents.length, 0);
  return { folder, sizeBytes, bundleBytes };
}

/** A younger generation of this size keeps the agent's resident memory near to bare Node's. */
const nodeFlags = ["--max-semi-space-size=1"];

function hashOf(files: readonly OutputFile[]): string {
  const hash = createHash("sha256");
  for (const { path, contents } of files) hash.update(`${basename(path)}\n`).update(contents);
  return hash.digest("hex");
}

/** Bundles Coral in a few files: a role does not load what only another one needs. */
async function bundleCoral(): Promise<OutputFile[]> {
  const result = await build({
    entryPoints: [join(repositoryRoot, "src/cmd/main.ts")],
    absWorkingDir: repositoryRoot,
    bundle: true,
    platform: "node",
    target: "node26",
    format: "esm",
    minifyWhitespace: true,
    minifySyntax: true, // Names stay, so that a stack trace can be read.
    legalComments: "none",
    splitting: true,
    entryNames: "coral",
    // Packages that are CommonJS ask for Node's own modules by `require`.
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
    write: false,
    outdir: "app",
  });
  return result.outputFiles;
}

async function ensureBase({ signal }: Scope): Promise<string> {
  const roots = await ensureNodeRoots({ signal });
  const assemble = async (folder: string): Promise<void> => {
    const layout = await ImageLayout.create(folder);
    const libraries = await layout.addLayer(roots.libraries, { signal });
    const node = await layout.addLayer(roots.strippedNode, { signal });
    await writeFile(join(folder, "layers.json"), JSON.stringify([libraries, node]));
  };
  return cachedFolder("coral-base", ["1", roots], assemble, { signal });
}

function parseLayers(text: string): Layer[] {
  const value: unknown = JSON.parse(text);
  if (Array.isArray(value) && value.every(isLayer)) return value;
  throw new TypeError("The cached base image must list its layers");
}

function isLayer(value: unknown): value is Layer {
  return typeof value === "object" && value !== null && "descriptor" in value && "diffId" in value;
}
