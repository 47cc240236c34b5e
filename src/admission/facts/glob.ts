/** A part of a glob that stands for others: `*` for anything but `/`, `**` for anything. */
type Token = "any" | "segment" | number;

const slash = 0x2f;

/**
 * Makes a matcher of a glob: `*` stands for anything but `/`, `**` for anything, everything else for
 * itself. The whole text must match. The work is bounded by the length of the text times that of the glob,
 * whoever wrote them: nothing is tried twice.
 */
export function compileGlob(glob: string): (text: string) => boolean {
  const [prefix = "", ...more] = glob.split("*", 2);
  if (more.length === 0) return (text) => text === prefix;
  const suffix = glob.slice(glob.lastIndexOf("*") + 1);
  const wild = glob.slice(prefix.length, glob.length - suffix.length);
  const shortest = prefix.length + suffix.length;
  const matchesWild = compileWild(wild);
  // Most texts differ in how they begin or end, which is asked at no cost.
  return (text) =>
    text.length >= shortest &&
    text.startsWith(prefix) &&
    text.endsWith(suffix) &&
    matchesWild(text, prefix.length, text.length - suffix.length);
}

/** Matches a part of a text against a glob that begins and ends with `*`. */
function compileWild(wild: string): (text: string, start: number, end: number) => boolean {
  const tokens = tokensOf(wild);
  const literals = wild.split(/\*+/).filter((literal) => literal !== "");
  const isAnywhere = tokens.every((token) => token !== "segment");
  if (wild === "*") return (text, start, end) => !text.slice(start, end).includes("/");
  return (text, start, end) => {
    // What has not even these is most of what is asked, and where only `**` is between them it is the answer.
    if (!hasInOrder(literals, text, start, end)) return false;
    return isAnywhere || simulate(tokens, text, start, end);
  };
}

function hasInOrder(
  literals: readonly string[],
  text: string,
  start: number,
  end: number,
): boolean {
  let from = start;
  for (const literal of literals) {
    const at = text.indexOf(literal, from);
    if (at === -1) return false;
    from = at + literal.length;
  }
  return from <= end;
}

/** A run of more than two stars is `**`. */
function tokensOf(glob: string): Token[] {
  return [...glob.matchAll(/(\*\*+)|(\*)|[^*]/g)].map(([text, many, one]) => {
    if (many !== undefined) return "any";
    return one === undefined ? text.charCodeAt(0) : "segment";
  });
}

/** Follows all ways to match at once: the places in the glob where one of them stands, in order. */
function simulate(tokens: readonly Token[], text: string, start: number, end: number): boolean {
  let places = enter(tokens, 0, []);
  for (let at = start; at < end && places.length > 0; at++) {
    const unit = text.charCodeAt(at);
    let next: number[] = [];
    for (const place of places) {
      const token = tokens[place];
      // What matches from an earlier place does so from here, too.
      if (token === "any") next = enter(tokens, place, []);
      else if (token === "segment" && unit !== slash) enter(tokens, place, next);
      else if (token === unit) enter(tokens, place + 1, next);
    }
    places = next;
  }
  return places.at(-1) === tokens.length;
}

/** Adds a place, and those behind it that are reached because stars may stand for nothing. */
function enter(tokens: readonly Token[], from: number, places: number[]): number[] {
  const last = places.at(-1) ?? -1;
  for (let place = from; place <= tokens.length; place++) {
    if (place > last) places.push(place);
    if (typeof tokens[place] === "number" || place === tokens.length) break;
  }
  return places;
}
