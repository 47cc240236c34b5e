import type { Descriptor } from "#oci/content.ts";
import { maxManifestBytes } from "./manifest-read.ts";
import { readPages, type PagesOptions } from "./pages.ts";
import { parseReferrers } from "./referrers.ts";
import type { RegistryCall } from "./registry-call.ts";
import { RegistryError } from "./registry-error.ts";

/** More pages of referrers are no image's signatures any more. */
const maxPages = 100;

const pages: PagesOptions = {
  accept: "application/vnd.oci.image.index.v1+json",
  limitBytes: maxManifestBytes,
  maxPages,
};

/**
 * Asks a registry's API for referrers (distribution-spec, "Listing Referrers"); `undefined` if it did
 * not tell.
 *
 * @param onLack - called if it has no such API.
 */
export async function askReferrers(
  call: RegistryCall,
  digest: string,
  onLack: () => void,
): Promise<readonly Descriptor[] | undefined> {
  const url = call.urlOf(`referrers/${digest}`);
  const found: Descriptor[] = [];
  try {
    for await (const { body, header } of readPages(call, url, pages)) {
      const page = parseReferrers(body, header("content-type") ?? "");
      if (!page) {
        onLack();
        return undefined;
      }
      found.push(...page);
    }
    return found;
  } catch (error) {
    if (!(error instanceof RegistryError) || !isLackOfApi(error)) throw error;
    // What is not there tells nothing of the API.
    if (!error.ociCode?.endsWith("_UNKNOWN")) onLack();
    return undefined;
  }
}

/** How registries without the API answer: as to any address that they do not know. */
function isLackOfApi({ code, status = 0 }: RegistryError): boolean {
  return code === "NOT_FOUND" || [400, 405, 406, 501].includes(status);
}
