const unitMs = new Map([
  ["ns", 1e-6],
  ["us", 1e-3],
  ["µs", 1e-3], // U+00B5, the micro sign.
  ["μs", 1e-3], // U+03BC, the Greek letter.
  ["ms", 1],
  ["s", 1_000],
  ["m", 60_000],
  ["h", 3_600_000],
]);

/** Longer texts are no durations, and cost time. */
const maxChars = 64;

/**
 * Parses a duration as Go writes it, and Kubernetes with it: `12h`, `5m0s`, `1h30m`, `1.5h`, `0`.
 *
 * @returns milliseconds; `undefined` for every other text, and for less than nothing.
 */
export function parseGoDuration(text: string): number | undefined {
  if (text === "0") return 0;
  if (text.length > maxChars || !/^(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(text)) {
    return undefined;
  }
  const parts = text.matchAll(/([\d.]+)([a-zµμ]+)/g);
  return [...parts].reduce((sum, [, amount, unit = ""]) => {
    return sum + Number(amount) * (unitMs.get(unit) ?? 0);
  }, 0);
}
