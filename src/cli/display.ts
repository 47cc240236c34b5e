import type { Clock } from "#async/clock.ts";
import type { CopyEvent } from "#mirror/copy-result.ts";
import { drawProgress, type Space } from "./bars.ts";
import { labelOf, Progress } from "./progress.ts";
import { formatBytes, formatDuration } from "./units.ts";

/** Faster than this, a terminal only flickers. */
const frameMs = 100;

/** How often nothing new is shown all the same, so that rates fall and times pass. */
const idleFrames = 10;

export interface DisplayOptions {
  readonly write: (text: string) => void;
  readonly clock: Clock;
  /** Asked before each frame: windows change their size. Without it there are lines, and no bars. */
  readonly space?: () => Space;
}

/**
 * Shows what happens while tags are copied: bars at the bottom of a terminal, with lines for what is done
 * above them; elsewhere the lines alone.
 *
 * A frame is one write over the last one, and clears only what that had more. Disposing it takes the bars away.
 */
export class Display implements Disposable {
  readonly #options: DisplayOptions;
  readonly #progress = new Progress();
  readonly #stop = new AbortController();
  /** What stands on the terminal now. */
  #height = 0;
  /** Lines that go above the next frame. */
  #lines: string[] = [];
  #isChanged = true;
  /** Until when registries want to be left alone, as far as a line has said it. */
  readonly #told = new Map<string, number>();

  constructor(options: DisplayOptions) {
    this.#options = options;
    if (options.space) void this.#redraw(options.space);
  }

  /** Takes in what happens. */
  note(event: CopyEvent): void {
    this.#progress.note(event, this.#nowMs());
    this.#isChanged = true;
    const line = event.kind === "tagDone" ? lineOf(event) : undefined;
    if (line !== undefined) this.line(line);
  }

  /** A registry wants to be left alone until then, in milliseconds since 1970, or no more. */
  waitFor(host: string, untilMs: number | undefined): void {
    this.#progress.waitFor(host, untilMs);
    this.#isChanged = true;
    // Each request that waits says so; told is it once.
    if (this.#options.space || untilMs === undefined || this.#told.get(host) === untilMs) return;
    this.#told.set(host, untilMs);
    const left = formatDuration(Math.max(0, untilMs - this.#nowMs()));
    this.line(`${host} wants to be left alone for ${left}: waiting`);
  }

  /** Writes a line that stays. */
  line(text: string): void {
    if (this.#options.space) this.#lines.push(text);
    else this.#options.write(`${text}\n`);
  }

  [Symbol.dispose](): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    if (this.#options.space) this.#draw([]);
  }

  async #redraw(space: () => Space): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stop;
    try {
      for (let frame = 0; ; frame++) {
        await clock.sleep(frameMs, { signal });
        if (!this.#isChanged && frame % idleFrames !== 0) continue;
        this.#isChanged = false;
        this.#draw(drawProgress(this.#progress.view(this.#nowMs()), space()));
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #draw(frame: readonly string[]): void {
    const up = this.#height > 0 ? `\x1b[${this.#height}A` : "";
    const lines = [...this.#lines, ...frame].map((line) => `\r${line}\x1b[K\n`);
    this.#options.write(`${up}${lines.join("")}\x1b[J`);
    this.#lines = [];
    this.#height = frame.length;
  }

  #nowMs(): number {
    return this.#options.clock.now().getTime();
  }
}

/** What is said of a tag that is done. Nothing of one that was in step: there may be thousands. */
function lineOf({
  source,
  target,
  tag,
  result,
}: Extract<CopyEvent, { kind: "tagDone" }>): string | undefined {
  const name = labelOf(source, tag);
  switch (result.outcome) {
    case "copied": {
      const { bytesCopied, manifestsCopied } = result;
      return `copied ${name} to ${target} (${formatBytes(bytesCopied)}, ${manifestsCopied} manifests)`;
    }
    case "failed":
      return `failed ${name}: ${result.code}: ${result.reason}`;
    case "throttled":
      return `throttled ${name}: ${result.reason}`;
    case "unchanged":
    case "planned": // The summary lists them with their sizes, which are not known yet.
      return undefined;
    default:
      return result satisfies never;
  }
}
