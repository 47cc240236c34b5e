/** A growing set of small numbers, at the cost of a bit each. */
export class Bits {
  #words = new Uint32Array(0);

  has(number: number): boolean {
    return ((this.word(number >>> 5) >>> (number & 31)) & 1) === 1;
  }

  add(number: number): void {
    const at = number >>> 5;
    if (at >= this.#words.length) {
      const words = new Uint32Array(Math.max(at + 1, this.#words.length * 2));
      words.set(this.#words);
      this.#words = words;
    }
    this.#words[at] = this.word(at) | (1 << (number & 31));
  }

  delete(number: number): void {
    const at = number >>> 5;
    if (at < this.#words.length) this.#words[at] = this.word(at) & ~(1 << (number & 31));
  }

  /** How many words there are: 32 numbers each. */
  get wordCount(): number {
    return this.#words.length;
  }

  /** The numbers from `32 * at`, the first as the lowest bit. */
  word(at: number): number {
    return this.#words[at] ?? 0;
  }
}

/**
 * Shows, in order, the numbers that are in all of some sets until one is accepted. There must be a set.
 *
 * @returns whether one was.
 */
export function someInAll(sets: readonly Bits[], accepts: (number: number) => boolean): boolean {
  const wordCount = wordCountOf(sets);
  for (let at = 0; at < wordCount; at++) {
    for (let word = commonWord(sets, at); word !== 0; word &= word - 1) {
      if (accepts(at * 32 + 31 - Math.clz32(word & -word))) return true;
    }
  }
  return false;
}

/** Counts the numbers that are in all of some sets. There must be a set. */
export function countInAll(sets: readonly Bits[]): number {
  const wordCount = wordCountOf(sets);
  let count = 0;
  for (let at = 0; at < wordCount; at++) count += bitCount(commonWord(sets, at));
  return count;
}

/** Beyond the shortest set, nothing is in all of them. */
function wordCountOf(sets: readonly Bits[]): number {
  return Math.min(...sets.map(({ wordCount }) => wordCount));
}

function commonWord(sets: readonly Bits[], at: number): number {
  let word = ~0;
  for (const set of sets) word &= set.word(at);
  return word;
}

/** Adds neighbouring bits, then pairs, then fours, and the four bytes by a multiplication. */
function bitCount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
