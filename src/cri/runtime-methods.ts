import { ImageServiceDefinition, RuntimeServiceDefinition } from "./gen/runtime/v1/api.ts";
import { ContentDefinition } from "./gen/services/content/v1/content.ts";
import { EventsDefinition } from "./gen/services/events/v1/events.ts";
import { methodOf } from "./grpc-channel.ts";

const { imageFsInfo, imageStatus, listImages, pullImage, removeImage } =
  ImageServiceDefinition.methods;

/** Every call that Coral makes on the runtime's socket: CRI `runtime.v1`, and containerd's own events and content. */
export const runtimeMethods = {
  version: methodOf(RuntimeServiceDefinition, RuntimeServiceDefinition.methods.version),
  listImages: methodOf(ImageServiceDefinition, listImages),
  imageStatus: methodOf(ImageServiceDefinition, imageStatus),
  pullImage: methodOf(ImageServiceDefinition, pullImage),
  removeImage: methodOf(ImageServiceDefinition, removeImage),
  imageFsInfo: methodOf(ImageServiceDefinition, imageFsInfo),
  listStatuses: methodOf(ContentDefinition, ContentDefinition.methods.listStatuses),
  readContent: methodOf(ContentDefinition, ContentDefinition.methods.read),
  subscribe: methodOf(EventsDefinition, EventsDefinition.methods.subscribe),
};
