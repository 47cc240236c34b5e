import { ImageCreate, ImageDelete, ImageUpdate } from "./gen/events/image.ts";
import type { Envelope } from "./gen/types/event.ts";

/** A change of one image record of containerd. */
export interface ImageEvent {
  type: "create" | "update" | "delete";
  /** The record's name: a reference with tag or digest, or an image id (`sha256:…`). */
  name: string;
}

/** The namespace in which containerd's CRI plugin keeps its images. */
export const criNamespace = "k8s.io";

/**
 * What containerd's events service is asked to send: every change of a record in the CRI plugin's
 * namespace. Without the namespace it would send those of `ctr` and Docker too.
 */
export const imageEventFilter = `namespace==${criNamespace},topic~=^/images/`;

const parsers: Readonly<Record<string, (value: Uint8Array) => ImageEvent>> = {
  "/images/create": (value) => ({ type: "create", name: ImageCreate.decode(value).name }),
  "/images/update": (value) => ({ type: "update", name: ImageUpdate.decode(value).name }),
  "/images/delete": (value) => ({ type: "delete", name: ImageDelete.decode(value).name }),
};

/** Returns the image event in an envelope, or `undefined` for a topic that is not known here. */
export function parseImageEvent({ topic, event }: Envelope): ImageEvent | undefined {
  return event && parsers[topic]?.(event.value);
}
