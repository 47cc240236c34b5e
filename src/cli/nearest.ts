/** Finds the known name that was probably meant; `undefined` if none is near. */
export function nearestName(written: string, known: readonly string[]): string | undefined {
  const word = written.slice(0, 64).toLowerCase();
  const most = Math.max(1, Math.floor(word.length / 3));
  const [nearest] = known
    .map((name) => ({ name, distance: distanceOf(word, name.toLowerCase()) }))
    .filter(({ distance }) => distance <= most)
    .sort((a, b) => a.distance - b.distance);
  return nearest?.name;
}

/** How many letters must be put in, taken out, changed, or swapped with the next. */
function distanceOf(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1];
      const isSwapped =
        row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      current[column] = Math.min(
        (previous[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (previous[column - 1] ?? 0) + (isSame ? 0 : 1),
        isSwapped ? (before[column - 2] ?? 0) + 1 : Infinity,
      );
    }
    [before, previous] = [previous, current];
  }
  return previous[b.length] ?? 0;
}
