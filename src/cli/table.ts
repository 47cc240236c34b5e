/** A column: its head, and on which side its cells stand. */
export interface Column {
  readonly head: string;
  readonly align: "left" | "right";
}

/** Formats a table as `kubectl get` does: heads in upper case, columns three spaces apart. */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): string[] {
  const all = [columns.map(({ head }) => head), ...rows];
  const widths = columns.map((_, index) => Math.max(...all.map((row) => row[index]?.length ?? 0)));
  return all.map((row) =>
    columns
      .map(({ align }, index) => {
        const cell = row[index] ?? "";
        const width = widths[index] ?? 0;
        return align === "left" ? cell.padEnd(width) : cell.padStart(width);
      })
      .join("   ")
      .trimEnd(),
  );
}
