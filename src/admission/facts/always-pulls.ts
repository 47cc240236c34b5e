import type { Pod } from "#kube/types.ts";
import type { Feed } from "./feed.ts";

/**
 * Knows whether the API server has the plugin AlwaysPullImages, which refuses pods with another pull
 * policy. It needs no right to read how the API server is set up: Coral's own pods ask for another policy,
 * and have `Always` only where the plugin has changed it. While none is known, it is off; so it is while
 * there are pods from before it was switched on.
 */
export class AlwaysPulls implements Disposable {
  readonly #listener: Disposable;
  readonly #onChange: () => void;
  /** By the pod's key: whether all of its containers are always pulled. */
  readonly #pods = new Map<string, boolean>();
  #isOn = false;

  /**
   * @param ownPods - Coral's, as its manifests have them.
   * @param onChange - called when `isOn` has changed.
   */
  constructor(ownPods: Pick<Feed<Pod>, "onChange">, onChange: () => void) {
    this.#onChange = onChange;
    this.#listener = ownPods.onChange(({ type, key, object }) => {
      const policies = type === "deleted" ? [] : pullPoliciesOf(object);
      if (policies.length === 0) this.#pods.delete(key);
      else
        this.#pods.set(
          key,
          policies.every((policy) => policy === "Always"),
        );
      this.#look();
    });
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  #look(): void {
    const isOn = this.#pods.size > 0 && this.#pods.values().every((isAlways) => isAlways);
    if (isOn === this.#isOn) return;
    this.#isOn = isOn;
    this.#onChange();
  }

  [Symbol.dispose](): void {
    this.#listener[Symbol.dispose]();
  }
}

/** The API server fills them in: what has none is known in part. */
function pullPoliciesOf({ spec = {} }: Pod): string[] {
  const { initContainers = [], containers = [] } = spec;
  return [...initContainers, ...containers].flatMap(({ imagePullPolicy }) => imagePullPolicy ?? []);
}
