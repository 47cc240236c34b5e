import * as z from "zod/mini";

import { digestPattern, tagPattern } from "#oci/reference.ts";
import { atomicList, boundedText, field, setList, withRules } from "./schema.ts";

// The grammar of #oci/reference.ts in RE2, so that most slips are refused by the API server itself.
const label = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?";
const host = `(localhost(:[0-9]+)?|${label}(\\.${label})+(:[0-9]+)?|${label}:[0-9]+|\\[[0-9a-fA-F:]+\\](:[0-9]+)?)`;
const component = "[a-z0-9]+((\\.|_{1,2}|-+)[a-z0-9]+)*";
// Before a slash, a dot makes a part a host.
const dotless = "[a-z0-9]+((_{1,2}|-+)[a-z0-9]+)*";

/** What a repository's name is, in the syntax that RE2 and JavaScript share. */
export const repositoryPattern = `^((${host}|${dotless})/${component}(/${component})*|${component})$`;

const nameSchema = withRules(
  boundedText(255, { minLength: 1 }),
  { rule: "!self.contains('@')", message: 'must not have a digest: list it in "digests"' },
  {
    rule: "self.contains('@') || !self.matches(':[^/]*$')",
    message: 'must not have a tag: list it in "tags"',
  },
  {
    rule: "!self.matches('^[0-9a-f]{64}$')",
    message: "must not be 64 hexadecimal digits, which is an image id",
  },
  {
    rule: `self.contains('@') || self.matches(':[^/]*$') || self.matches(r'${repositoryPattern}')`,
    message:
      'must be an image name like "debian", "ghcr.io/org/app" or "localhost:5000/app", in lower case after the host',
  },
);

const filterSchema = z.object({
  include: z.exactOptional(
    field(
      atomicList(boundedText(256, { minLength: 1 }), 16),
      "Regular expressions (RE2), one of which a tag must match as a whole. Empty means every tag.",
    ),
  ),
  exclude: z.exactOptional(
    field(
      atomicList(boundedText(256, { minLength: 1 }), 16),
      "Regular expressions (RE2), none of which a tag may match as a whole.",
    ),
  ),
  semver: z.exactOptional(
    field(
      boundedText(256, { minLength: 1 }),
      "A range of versions, like `>=1.2 <2`. Tags that are no versions are left out.",
    ),
  ),
  newest: z.exactOptional(
    field(
      z.int32().check(z.minimum(1), z.maximum(100)),
      "How many of the tags that are left to take, newest first.",
    ),
  ),
});

/** Which tags and digests of a repository. */
export const repositorySelection = {
  tags: z.exactOptional(
    field(
      setList(boundedText(128, { minLength: 1, pattern: tagPattern }), 200),
      "Tags to have. With neither tags nor digests it is `latest`.",
    ),
  ),
  digests: z.exactOptional(
    field(
      setList(boundedText(135, { pattern: digestPattern }), 200),
      "Digests to have, `sha256:` or `sha512:` and hexadecimal digits.",
    ),
  ),
  listSelection: field(
    z._default(z.enum(["listed", "all"]), "listed"),
    "`listed` takes the tags and digests given here, `all` those that the registry has and the filter lets through.",
  ),
  filter: z.exactOptional(field(filterSchema, "Narrows down `listSelection: all`.")),
};

const repositoryFields = z.object({
  name: field(nameSchema, "Image name without tag and digest, like `debian` or `ghcr.io/org/app`."),
  ...repositorySelection,
});

const listRules = [
  {
    rule: "self.listSelection != 'all' || (!has(self.tags) && !has(self.digests))",
    message: 'listSelection "all" goes without tags and digests',
    fieldPath: ".listSelection",
  },
  {
    rule: "self.listSelection == 'all' || !has(self.filter)",
    message: 'filter needs listSelection "all"',
    fieldPath: ".filter",
  },
] as const;

/** What an Image takes of a repository. */
export const repositorySchema = withRules(
  repositoryFields,
  {
    rule: "self.listSelection != 'all' || (has(self.filter) && has(self.filter.newest))",
    message:
      'listSelection "all" needs filter.newest, from 1 to 100, because the disk of a node is finite',
    fieldPath: ".listSelection",
  },
  ...listRules,
);

/** What a Mirror takes of a repository: all of it, if that is wanted. */
export const mirroredRepositorySchema = withRules(repositoryFields, ...listRules);
