import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { isJsonObject, parseJson, type JsonObject } from "#json/json.ts";
import { run } from "#sandbox/command.ts";
import { buildCoralImage } from "#sandbox/images/coral-image.ts";

type Scope = { signal: AbortSignal };

/**
 * Unpacks Coral's image, so that Coral runs as it ships: the image's Node, with its flags, and the bundle.
 *
 * @returns the command that is the image's entry point.
 */
export async function unpackCoral(folder: string, { signal }: Scope): Promise<string[]> {
  const image = await buildCoralImage({ signal });
  const blob = (digest: unknown): string =>
    join(image.folder, "blobs", String(digest).replace(":", "/"));
  const index = await readJson(join(image.folder, "index.json"));
  const manifest = await readJson(blob(objectsOf(index["manifests"])[0]?.["digest"]));
  await mkdir(folder, { recursive: true });
  for (const { digest } of objectsOf(manifest["layers"])) {
    await run(["tar", "-xzf", blob(digest), "-C", folder], { signal });
  }
  const { config } = await readJson(blob(objectsOf([manifest["config"]])[0]?.["digest"]));
  const entrypoint = isJsonObject(config) ? config["Entrypoint"] : undefined;
  if (!Array.isArray(entrypoint)) throw new TypeError("Coral's image must have an entry point");
  return entrypoint.map((word) => (String(word).startsWith("/") ? join(folder, word) : word));
}

async function readJson(path: string): Promise<JsonObject> {
  const value = parseJson(await readFile(path, "utf8"));
  if (!isJsonObject(value)) throw new TypeError(`"${path}" must hold a JSON object`);
  return value;
}

function objectsOf(value: unknown): JsonObject[] {
  return Array.isArray(value) ? value.filter(isJsonObject) : [];
}
