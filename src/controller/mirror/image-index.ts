import { repositoryOf } from "./image-keys.ts";
import type { ImageUsers } from "./removals.ts";

/** Somebody who refers to images. One of these stands for the object as long as it is there. */
interface User {
  readonly kind: string;
  /** `namespace/name`, as `formatKey` writes it. */
  readonly key: string;
  images: readonly string[];
}

/** Knows who refers to an image, by the keys of `image-keys.ts`. */
export class ImageIndex implements ImageUsers {
  readonly #users = new Map<string, Map<string, User>>();
  readonly #byImage = new Map<string, Set<User>>();
  readonly #onChange: (repository: string) => void;

  /** @param onChange - told of each repository of which an image got its first user, or lost its last. */
  constructor(onChange: (repository: string) => void) {
    this.#onChange = onChange;
  }

  userOf(image: string): string | undefined {
    const [user] = this.#byImage.get(image) ?? [];
    return user && `${user.kind} ${user.key}`;
  }

  /** Takes note of what an object refers to: of nothing, if it is no more. */
  set(kind: string, key: string, images: readonly string[]): void {
    const ofKind = this.#users.get(kind) ?? new Map<string, User>();
    const user = ofKind.get(key) ?? { kind, key, images: [] };
    const before = user.images;
    user.images = images;
    if (images.length > 0) this.#users.set(kind, ofKind.set(key, user));
    else ofKind.delete(key);
    for (const image of images) this.#add(image, user);
    const kept = new Set(images);
    for (const image of before) if (!kept.has(image)) this.#remove(image, user);
  }

  #add(image: string, user: User): void {
    const users = this.#byImage.get(image);
    if (users) {
      users.add(user);
      return;
    }
    this.#byImage.set(image, new Set([user]));
    this.#onChange(repositoryOf(image));
  }

  #remove(image: string, user: User): void {
    const users = this.#byImage.get(image);
    if (!users?.delete(user) || users.size > 0) return;
    this.#byImage.delete(image);
    this.#onChange(repositoryOf(image));
  }
}
