import type { ImageEvent } from "#cri/image-events.ts";
import type { PullOptions, RuntimeImage } from "#cri/runtime-client.ts";

/** The container runtime as the agent uses it. `#cri/runtime-client.ts` has the contract. */
export interface Runtime {
  version(options: { signal: AbortSignal }): Promise<RuntimeVersion>;
  listImages(options: { signal: AbortSignal }): Promise<RuntimeImage[]>;
  imageStatus(
    reference: string,
    options: { signal: AbortSignal },
  ): Promise<RuntimeImage | undefined>;
  pull(reference: string, options: PullOptions): Promise<string>;
  imageEvents(options: { signal: AbortSignal }): AsyncIterable<ImageEvent>;
}

export interface RuntimeVersion {
  readonly name: string;
  readonly version: string;
}
