import { formatBytes, formatDuration } from "./units.ts";
import type { BlobProgress, ProgressView } from "./progress.ts";

/** How much room there is. */
export interface Space {
  readonly columns: number;
  readonly rows: number;
}

/** Blobs that are shown at the same time: more is no information. */
const maxBlobs = 8;

const barWidth = 20;

/** Draws what is to be seen of a pass, as lines that fit; never more than there are rows. */
export function drawProgress(view: ProgressView, { columns, rows }: Space): string[] {
  // The last column stays empty: some terminals go on to the next line there.
  const width = Math.max(1, columns - 1);
  const room = Math.max(1, rows - 1);
  const waits = view.waits.map(
    ({ host, leftMs }) => `${host} wants to be left alone for ${formatDuration(leftMs)}`,
  );
  const most = Math.max(0, Math.min(maxBlobs, room - 1 - waits.length));
  const shown = view.blobs.slice(0, most).map((blob) => drawBlob(blob, width));
  const hidden = view.blobs.length - shown.length;
  const lines = [headLine(view, hidden), ...waits, ...shown];
  return lines.slice(0, room).map((line) => cut(line, width));
}

function headLine(view: ProgressView, hidden: number): string {
  const { running, sentBytes, bytesPerSecond } = view;
  const counts = (["copied", "planned", "unchanged", "failed", "throttled"] as const)
    .map((name) => ({ name, count: view[name] }))
    .filter(({ name, count }) => count > 0 || name === "copied")
    .map(({ name, count }) => `${count} ${name}`);
  const speed = bytesPerSecond > 0 ? `, ${formatBytes(bytesPerSecond)}/s` : "";
  const more = hidden > 0 ? `, ${hidden} more blobs` : "";
  return `${counts.join(", ")}, ${running} under way: ${formatBytes(sentBytes)}${speed}${more}`;
}

/** The label gives way first, then the bar; the numbers stay. */
function drawBlob(blob: BlobProgress, width: number): string {
  const { label, digest, sentBytes, sizeBytes, bytesPerSecond } = blob;
  const share = sizeBytes === 0 ? 1 : Math.min(1, sentBytes / sizeBytes);
  const percent = `${Math.floor(share * 100)} %`.padStart(5);
  const sizes = `${formatBytes(sentBytes)} of ${formatBytes(sizeBytes)}`.padStart(19);
  const filled = Math.round(share * barWidth);
  const bar = `[${"#".repeat(filled)}${"-".repeat(barWidth - filled)}]`;
  const rest = [percent, sizes, ...speedOf(sizeBytes - sentBytes, bytesPerSecond)].join("  ");
  const hex = digest.slice(digest.indexOf(":") + 1, digest.indexOf(":") + 9);
  const name = `${label} ${hex}`;
  const withBar = `${bar} ${rest}`;
  const roomBesideBar = width - withBar.length - 1;
  if (roomBesideBar >= 16) return `${fit(name, roomBesideBar)} ${withBar}`;
  const roomForName = width - rest.length - 1;
  return roomForName >= 8 ? `${fit(name, roomForName)} ${rest}` : percent.trim();
}

function speedOf(leftBytes: number, bytesPerSecond: number | undefined): string[] {
  if (bytesPerSecond === undefined) return [];
  const speed = `${formatBytes(bytesPerSecond)}/s`.padStart(10);
  if (bytesPerSecond < 1) return [speed];
  return [speed, formatDuration((leftBytes * 1_000) / bytesPerSecond).padStart(9)];
}

/** Makes a text exactly so wide. Of a name that is too long its end says more: tag and digest. */
function fit(text: string, width: number): string {
  return text.length <= width ? text.padEnd(width) : `…${text.slice(text.length - width + 1)}`;
}

function cut(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, Math.max(0, width - 1))}…`;
}
