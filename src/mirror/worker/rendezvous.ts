import { hash } from "node:crypto";

/**
 * Says which member a key belongs to, by rendezvous hashing: the one whose hash with the key is highest.
 *
 * All who know the same members say the same, in whatever order they know them. When one leaves, its keys
 * go to all others in equal parts, and no other key moves.
 *
 * @returns `undefined` if there are no members.
 */
export function ownerOf(key: string, members: Iterable<string>): string | undefined {
  let owner: string | undefined;
  let highest = "";
  for (const member of members) {
    const weight = hash("sha256", `${member}\n${key}`);
    if (owner !== undefined && weight <= highest) continue;
    owner = member;
    highest = weight;
  }
  return owner;
}
