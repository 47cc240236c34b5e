import { hash } from "node:crypto";

import { isJsonObject, parseJson } from "#json/json.ts";
import { WrongContentError, type ManifestContent } from "#oci/content.ts";
import { digestPattern } from "#oci/reference.ts";
import { acceptAllManifests, isSchema1, typeOfManifest } from "./manifest.ts";
import type { RegistryCall } from "./registry-call.ts";
import { RegistryError } from "./registry-error.ts";

/** A limit of the specification (distribution-spec, "Pushing Manifests"). */
export const maxManifestBytes = 4 << 20;

/**
 * Reads a manifest of any kind; `undefined` if it is not there.
 *
 * @param where - whose manifest, for errors.
 * @throws {WrongContentError} if its bytes are not those of its digest.
 */
export async function readManifest(
  call: RegistryCall,
  name: string,
  where: string,
): Promise<ManifestContent | undefined> {
  const answer = await call.ask({
    method: "GET",
    url: call.urlOf(`manifests/${name}`),
    accept: acceptAllManifests,
    limitBytes: maxManifestBytes,
    mayBeAbsent: true,
  });
  if (answer.status === 404) return undefined;
  const { header, body: bytes } = answer;
  const value = parseJson(bytes.toString());
  if (!isJsonObject(value)) throw call.badAnswer("sends a manifest that is no JSON object");
  const mediaType = typeOfManifest(value, header("content-type"));
  const told = header("docker-content-digest") ?? "";
  const stated = digestPattern.test(name) ? name : told;
  const algorithm = stated.startsWith("sha512:") ? "sha512" : "sha256";
  const digest = `${algorithm}:${hash(algorithm, bytes)}`;
  if (digestPattern.test(stated) && digest !== stated) {
    // Its digest is of another form of it, and it is of no use but to be named.
    if (isSchema1(mediaType)) return { mediaType, digest: stated, bytes };
    throw new WrongContentError(stated, where, `its bytes have the digest "${digest}"`);
  }
  return { mediaType, digest, bytes };
}

/** Whether an error says that something is not there. */
export function isAbsent(error: unknown): boolean {
  return error instanceof RegistryError && error.code === "NOT_FOUND";
}
