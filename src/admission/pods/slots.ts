import { isJsonObject, textOf, type JsonObject } from "#json/json.ts";
import {
  formatReference,
  InvalidReferenceError,
  normalizeReference,
  parseReference,
} from "#oci/reference.ts";
import { pointerTo } from "./json-patch.ts";
import type { ImageSlot, PodRequest, SlotKind } from "./model.ts";

/** Names of containers and volumes are DNS labels. A pod with a longer one is refused, whoever decides. */
const maxNameChars = 63;

const containerFields = [
  ["initContainers", "initContainer"],
  ["containers", "container"],
  ["ephemeralContainers", "ephemeralContainer"],
] as const satisfies readonly (readonly [string, SlotKind])[];

/** Lists the places of a pod that name an image. What is malformed is no such place. */
export function readSlots(pod: JsonObject): ImageSlot[] {
  const spec = objectOf(pod["spec"]);
  return [
    ...containerFields.flatMap(([field, kind]) => containerSlots(spec[field], field, kind)),
    ...volumeSlots(spec["volumes"]),
  ];
}

/**
 * Lists the places that a request is about: all of a new pod; of an update those whose image is new.
 *
 * A request for ephemeral containers cannot change others, whatever it has of them.
 */
export function slotsOf({ operation, subresource, pod, oldPod }: PodRequest): ImageSlot[] {
  const slots = readSlots(pod);
  if (operation === "CREATE") return slots;
  const before = new Map(readSlots(oldPod ?? {}).map((slot) => [keyOf(slot), slot.image]));
  if (subresource !== "") {
    return slots.filter((slot) => slot.kind === "ephemeralContainer" && !before.has(keyOf(slot)));
  }
  return slots.filter((slot) => before.get(keyOf(slot)) !== slot.image);
}

/** The field of a place that says when its image is pulled. */
export function pullPolicyField({ kind }: ImageSlot): "imagePullPolicy" | "pullPolicy" {
  return kind === "imageVolume" ? "pullPolicy" : "imagePullPolicy";
}

const kindNames: Record<SlotKind, string> = {
  initContainer: "init container",
  container: "container",
  ephemeralContainer: "ephemeral container",
  imageVolume: "image volume",
};

/** Names a place, for people: `init container "setup"`. */
export function placeOf({ kind, name }: ImageSlot): string {
  return `${kindNames[kind]} ${JSON.stringify(name)}`;
}

/**
 * Names an image as runtimes hold it: of one with tag and digest only the digest counts, and the tag is
 * not remembered (containerd, reference/docker ParseDockerRef).
 *
 * @param reference - a full name.
 */
export function heldAs(reference: string): string {
  if (!reference.includes("@")) return reference;
  const { tag: _, ...held } = parseReference(reference);
  return formatReference(held);
}

function keyOf({ kind, name }: ImageSlot): string {
  return `${kind} ${name}`;
}

function containerSlots(list: unknown, field: string, kind: SlotKind): ImageSlot[] {
  return namedObjects(list).map(({ object, name, index }) => ({
    kind,
    name,
    pointer: pointerTo("/spec", field, index),
    ...imageOf(object["image"]),
    pullPolicy: optionalText(object["imagePullPolicy"]),
  }));
}

function volumeSlots(list: unknown): ImageSlot[] {
  return namedObjects(list).flatMap(({ object, name, index }) => {
    const { image } = object;
    if (!isJsonObject(image)) return [];
    const slot: ImageSlot = {
      kind: "imageVolume",
      name,
      pointer: pointerTo("/spec/volumes", index, "image"),
      ...imageOf(image["reference"]),
      pullPolicy: optionalText(image["pullPolicy"]),
    };
    return [slot];
  });
}

function namedObjects(list: unknown): { object: JsonObject; name: string; index: number }[] {
  const elements: readonly unknown[] = Array.isArray(list) ? list : [];
  return elements.flatMap((object, index) => {
    const name = isJsonObject(object) ? textOf(object["name"]) : "";
    const isName = name !== "" && name.length <= maxNameChars;
    return isJsonObject(object) && isName ? [{ object, name, index }] : [];
  });
}

function imageOf(value: unknown): Pick<ImageSlot, "image" | "reference"> {
  const image = textOf(value);
  return { image, reference: image === "" ? undefined : fullName(image) };
}

function fullName(image: string): string | undefined {
  try {
    return normalizeReference(image);
  } catch (error) {
    if (!(error instanceof InvalidReferenceError)) throw error;
    return undefined; // The kubelet says what is wrong with it.
  }
}

function optionalText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function objectOf(value: unknown): JsonObject {
  return isJsonObject(value) ? value : {};
}
