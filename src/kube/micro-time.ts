/** Writes a time as meta/v1 MicroTime, whose decoder wants exactly six decimals. */
export function formatMicroTime(time: Date): string {
  return time.toISOString().replace("Z", "000Z");
}
