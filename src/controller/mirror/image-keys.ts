import { repositoryKey } from "#api/v1/destination.ts";
import { InvalidReferenceError, parseReference } from "#oci/reference.ts";

/** What some runtimes put before the name of an image that is there. */
const pullablePrefix = /^docker-pullable:\/\//;

/** Names a tag, for comparing: of a repository as `repositoryKey` names it. */
export function tagKey(repository: string, tag: string): string {
  return `${repository}:${tag}`;
}

/** Names a digest, as `tagKey` names a tag. */
export function digestKey(repository: string, digest: string): string {
  return `${repository}@${digest}`;
}

/** Names the repository of a key. */
export function repositoryOf(key: string): string {
  const at = key.indexOf("@");
  return key.slice(0, at < 0 ? key.lastIndexOf(":") : at);
}

/**
 * Names what a text refers to: its tag, its digest, or both. A text that is no image name, such as a mere image
 * id, refers to nothing that a registry has.
 */
export function imageKeys(text: string): string[] {
  try {
    const { tag, digest, ...repository } = parseReference(text.replace(pullablePrefix, ""));
    const key = repositoryKey(repository);
    return [
      ...(tag === undefined ? [] : [tagKey(key, tag)]),
      ...(digest === undefined ? [] : [digestKey(key, digest)]),
    ];
  } catch (error) {
    if (!(error instanceof InvalidReferenceError)) throw error;
    return [];
  }
}
