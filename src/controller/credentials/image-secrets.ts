import type { Image } from "#api/v1/image.ts";
import { secretNamesOf } from "#controller/image/reconciler.ts";
import type { Informer } from "#kube/informer.ts";
import type { SecretWatch } from "#secrets/secret-watch.ts";

/**
 * Has each Secret watched while an Image names it. Disposed, it hears of Images no more, and lets no
 * Secret go: the watch does that when it ends.
 *
 * Of listeners to the same Images, those that ask for the Secrets must come after it.
 */
export function watchImageSecrets(
  images: Pick<Informer<Image>, "onChange">,
  secrets: Pick<SecretWatch, "use">,
): Disposable {
  return images.onChange(({ type, key, object }) => {
    const { namespace = "" } = object.metadata;
    secrets.use(key, namespace, type === "deleted" ? [] : secretNamesOf(object));
  });
}
