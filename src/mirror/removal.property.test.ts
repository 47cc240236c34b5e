import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { Descriptor } from "#oci/content.ts";
import { fallbackTag } from "#oci/manifest.ts";
import { FakeError, FakeRegistry, type FakeRepository } from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import { linksOf } from "./links.ts";
import { attachedTagsOf } from "./needed-digests.ts";
import { Ownership } from "./ownership.ts";
import { removeCopies } from "./removal.ts";

const owner = { cluster: "c", namespace: "team", mirror: "app" };
const other = { ...owner, cluster: "d" };
const now = new Date("2026-01-02T00:00:00Z");

const place = fc.nat({ max: 9 });
const often = fc.integer({ min: 1, max: 4 }).map((roll) => roll > 1);
const seldom = fc.integer({ min: 1, max: 8 }).map((roll) => roll === 1);

/** A tag, what it names, and what becomes of it. */
const tagged = fc.record({
  names: place,
  /** What it is a signature of, by its name. */
  attachedTo: fc.option(place, { freq: 4 }),
  isRecorded: often,
  isApproved: often,
  isApprovedWrongly: seldom,
  isSelected: seldom,
  isMoved: seldom,
  isWantedByOther: seldom,
});

/** A repository, and how it goes. */
const scene = fc.record({
  images: fc.integer({ min: 1, max: 4 }),
  indexes: fc.array(fc.array(place, { minLength: 1, maxLength: 3 }), { maxLength: 3 }),
  subjects: fc.array(place, { maxLength: 3 }),
  tags: fc.array(tagged, { minLength: 1, maxLength: 8 }),
  selectedDigest: fc.option(place, { freq: 4 }),
  removes: fc.constantFrom("tags and digests", "digests", "nothing"),
  hasReferrersApi: fc.boolean(),
  breaksAt: fc.option(fc.nat({ max: 29 }), { freq: 3 }),
  /** Whether that is refused for good, and the rest goes on. */
  isProtected: fc.boolean(),
});

type Scene = typeof scene extends fc.Arbitrary<infer T> ? T : never;

/** What a repository has, as who has all of it in hand sees it. */
interface State {
  readonly tags: ReadonlyMap<string, string>;
  readonly manifests: ReadonlyMap<string, { children: readonly string[]; subject?: string }>;
}

async function stateOf(target: FakeRepository, signal: AbortSignal): Promise<State> {
  const tags = new Map<string, string>();
  for await (const tag of target.tags({ signal })) tags.set(tag, target.tagged(tag) ?? "");
  const manifests = new Map();
  for (const digest of target.digests()) {
    const content = await target.manifest(digest, { signal });
    if (!content) continue; // A blob.
    const { manifests: children, subject } = linksOf(content);
    manifests.set(digest, { children, subject });
  }
  return { tags, manifests };
}

/**
 * Everything that a tag or digest needs: what is in it, what that refers to, and what it is about by its name.
 * What is in a manifest that has no tag, and is only referred to, is found if it may be removed itself.
 */
function closure(
  { manifests, tags }: State,
  name: string,
  removable: ReadonlySet<string>,
): Set<string> {
  const [, hex] = /^sha256-([0-9a-f]{64})/.exec(name) ?? [];
  const subjects = new Set<string>();
  const about = hex === undefined ? [] : [`sha256:${hex}`];
  const whole = new Set([tags.get(name) ?? name, ...about]);
  for (const digest of whole) {
    for (const child of manifests.get(digest)?.children ?? []) whole.add(child);
    for (const subject of subjectsOf(manifests, digest)) {
      subjects.add(subject);
      if (removable.has(subject)) whole.add(subject);
    }
  }
  return whole.union(subjects);
}

/** What a tag names, and what is in that. */
function contentsOf({ manifests, tags }: State, name: string): Set<string> {
  const found = new Set([tags.get(name) ?? name]);
  for (const digest of found) {
    for (const child of manifests.get(digest)?.children ?? []) found.add(child);
  }
  return found;
}

/** What a manifest refers to, and what that refers to. */
function subjectsOf(manifests: State["manifests"], digest: string): string[] {
  const subject = manifests.get(digest)?.subject;
  return subject === undefined ? [] : [subject, ...subjectsOf(manifests, subject)];
}

/** Whether a manifest is one of some, or refers to one. */
function isAbout({ manifests }: State, digest: string, some: ReadonlySet<string>): boolean {
  return [digest, ...subjectsOf(manifests, digest)].some((each) => some.has(each));
}

const pick = <T>(list: readonly T[], index: number): T[] => {
  const value = list[index % Math.max(list.length, 1)];
  return value === undefined ? [] : [value];
};

/** @returns the tags, by name. */
async function build(
  target: FakeRepository,
  { images, indexes, subjects, tags }: Scene,
  signal: AbortSignal,
): Promise<Map<string, Scene["tags"][number]>> {
  const manifests: Descriptor[] = [];
  for (let index = 0; index < images; index++) manifests.push(addImage(target, [`${index}`]));
  for (const [index, children] of indexes.entries()) {
    const annotations = { number: `${index}` };
    const named = children.flatMap((child) => pick(manifests, child));
    manifests.push(
      addIndex(
        target,
        "",
        named.map((descriptor) => ({ descriptor, annotations })),
      ),
    );
  }
  for (const [index, subject] of subjects.entries()) {
    const [about] = pick(manifests, subject);
    const referrer = addImage(target, [`referrer ${index}`], { ...(about && { subject: about }) });
    await putAgain(target, referrer.digest, referrer, signal);
    manifests.push(referrer);
  }
  const named = new Map<string, Scene["tags"][number]>();
  for (const [index, tag] of tags.entries()) {
    const [about] = tag.attachedTo === null ? [] : pick(manifests, tag.attachedTo);
    const name = about ? `${fallbackTag(about.digest)}.sig` : `tag${index}`;
    for (const descriptor of pick(manifests, tag.names)) {
      await putAgain(target, name, descriptor, signal);
    }
    named.set(name, tag);
  }
  return named;
}

/** Puts a manifest as a client does, so that it is listed where there is no API. */
async function putAgain(
  target: FakeRepository,
  name: string,
  { digest }: Descriptor,
  signal: AbortSignal,
): Promise<void> {
  const content = await target.manifest(digest, { signal });
  if (content) await target.putManifest(name, content, { signal });
}

async function record(
  target: FakeRepository,
  by: typeof owner,
  {
    tags,
    selected,
    signal,
  }: { tags: readonly string[]; selected: readonly string[]; signal: AbortSignal },
): Promise<void> {
  const ownership = await Ownership.read(target, by, { signal });
  await ownership.claim(tags, { signal });
  const copied = new Map(tags.map((tag) => [tag, target.tagged(tag) ?? ""]));
  const findings = { copied, unchanged: new Map(), selected: new Set(selected), isComplete: true };
  await ownership.settle(findings, { now, signal });
}

describe("removeCopies()", () => {
  test("removes nothing that is not approved, nor what that needs", async ({ signal }) => {
    let removals = 0;
    await fc.assert(
      fc.asyncProperty(scene, async (wanted) => {
        const { removes, hasReferrersApi } = wanted;
        const registry = new FakeRegistry("target.test", { removes, hasReferrersApi });
        const target = registry.repository("org/app");
        const tags = await build(target, wanted, signal);
        type Fact = keyof Scene["tags"][number];
        const tagsThat = (fact: Fact): string[] =>
          [...tags].flatMap(([tag, facts]) => (facts[fact] === true ? tag : []));
        const recorded = tagsThat("isRecorded");
        const wantedByOther = new Set(tagsThat("isWantedByOther"));
        await record(target, owner, { tags: recorded, selected: [], signal });
        const theirs = [...wantedByOther];
        await record(target, other, { tags: theirs, selected: theirs, signal });
        const written = new Map(recorded.map((tag) => [tag, target.tagged(tag)]));
        for (const tag of tagsThat("isMoved")) addImage(target, [`moved ${tag}`], { tag });
        const before = await stateOf(target, signal);
        const digests = [...before.manifests.keys()];
        const wrong = new Set(tagsThat("isApprovedWrongly"));
        const approved = tagsThat("isApproved").map((tag) => ({
          tag,
          digest: (wrong.has(tag) ? digests[0] : written.get(tag)) ?? target.tagged(tag) ?? "",
        }));
        const { selectedDigest, breaksAt, isProtected } = wanted;
        const selectedDigests = selectedDigest === null ? [] : pick(digests, selectedDigest);
        const selected = new Set([...tagsThat("isSelected"), ...selectedDigests]);
        const ownership = await Ownership.read(target, owner, { signal });
        const victims = [...before.tags.keys(), ...digests];
        const broken = new FakeError("UNREACHABLE", { retryable: !isProtected });
        const breaking = breaksAt === null ? [] : pick(victims, breaksAt);
        const times = isProtected ? Infinity : 1;
        for (const name of breaking) target.fail("deleteManifest", name, broken, times);
        const ending = await removeCopies(target, approved, { ownership, selected, signal }).catch(
          (error: unknown) => {
            assert.equal(error, broken);
          },
        );
        const after = await stateOf(target, signal);

        const isRemovable = (tag: string): boolean =>
          approved.some((copy) => copy.tag === tag && copy.digest === written.get(tag)) &&
          written.get(tag) === before.tags.get(tag) &&
          !selected.has(tag) &&
          !wantedByOther.has(tag);
        const removable = [...before.tags.keys()].filter(isRemovable);
        const mayGo = new Set(removable.map((tag) => before.tags.get(tag) ?? ""));
        const attachedToRemovable = new Set(
          removable.flatMap((tag) => attachedTagsOf(before.tags.get(tag) ?? "")),
        );
        const gone = [...before.tags.keys()].filter((tag) => !after.tags.has(tag));
        removals += gone.length;
        for (const tag of gone) {
          const goesAlong =
            attachedToRemovable.has(tag) &&
            written.get(tag) === before.tags.get(tag) &&
            !selected.has(tag) &&
            !wantedByOther.has(tag);
          assert.ok(isRemovable(tag) || goesAlong, `${tag} is gone`);
        }
        const lost = new Set(digests.filter((digest) => !after.manifests.has(digest)));
        const needed = (name: string): ReadonlySet<string> =>
          aboutLost.has(name) ? contentsOf(before, name) : closure(before, name, mayGo);
        const aboutLost = new Set(
          digests.filter((digest) => isAbout(before, digest, lost)).flatMap(attachedTagsOf),
        );
        for (const name of [...after.tags.keys(), ...selectedDigests]) {
          if (name === ownership.tag) continue; // It was written anew.
          assert.equal(after.tags.get(name), before.tags.get(name), `${name} is moved`);
          for (const digest of needed(name).intersection(before.manifests)) {
            assert.ok(after.manifests.has(digest), `${name} lost "${digest}"`);
          }
        }
        const left = await Ownership.read(target, owner, { signal });
        for (const [tag, digest] of written) {
          const isThere = after.tags.get(tag) === digest;
          if (isThere) assert.equal(left.digestOf(tag), digest, `${tag} is lost to removal`);
          if (ending && gone.includes(tag)) assert.equal(left.digestOf(tag), undefined, tag);
        }
        if (ending && removes === "tags and digests") {
          const free = removable.filter((tag) => !breaking.includes(tag));
          assert.deepEqual(ending.removed.filter(isRemovable).sort(), free.toSorted());
        }
        // Whether a tag that is protected is asked for at all depends on whether others were before.
        const isTag = breaking.some((name) => before.tags.has(name));
        if (ending && removes === "digests" && !isTag) {
          const stays = (name: string): boolean =>
            !removable.includes(name) || breaking.includes(before.tags.get(name) ?? "");
          const roots = [...before.tags.keys(), ...selectedDigests].filter(
            (name) => stays(name) && !name.startsWith("sha256-"),
          );
          // Lists of referrers and signatures may hold more of them; what nothing needs goes.
          const rooted = new Set(roots.flatMap((name) => [...closure(before, name, mayGo)]));
          const hasAttached = [...before.tags.keys()].some((tag) => tag.startsWith("sha256-"));
          for (const tag of removable) {
            const isGone = gone.includes(tag);
            if (!hasAttached) assert.equal(isGone, !rooted.has(before.tags.get(tag) ?? ""), tag);
          }
        }
      }),
      { numRuns: 300 },
    );
    assert.ok(removals > 50, `${removals}`);
  });
});
