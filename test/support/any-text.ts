import * as fc from "fast-check";

/**
 * Any text of at most so many code points, lone surrogates among them. As fast-check's own
 * `fc.string({ unit: "binary" })`, without its table of all that there are: that takes a second to fill.
 */
export function anyText(maxLength: number): fc.Arbitrary<string> {
  const codePoints = fc.array(fc.nat({ max: 0x10ffff }), { maxLength });
  return codePoints.map((points) => String.fromCodePoint(...points));
}
