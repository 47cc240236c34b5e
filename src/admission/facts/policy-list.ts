import { isDeepStrictEqual } from "node:util";

import type { ImagePolicy } from "#api/v1/image-policy.ts";
import type { ReadyPolicy } from "#admission/pods/model.ts";
import { comparePolicies, readyPolicy, type PolicyProblem } from "./ready-policy.ts";

interface Entry {
  readonly policy: ImagePolicy;
  readonly result: ReadyPolicy | PolicyProblem[];
}

/** Keeps policies ready, in the order in which they are asked. */
export class PolicyList {
  readonly #entries = new Map<string, Entry>();
  #ready: readonly ReadyPolicy[] = [];

  /** Those that make sense. */
  get ready(): readonly ReadyPolicy[] {
    return this.#ready;
  }

  /**
   * Takes note of a policy, or of what it is now.
   *
   * @returns what is wrong with it and was not told before.
   */
  set(policy: ImagePolicy): readonly PolicyProblem[] {
    const { name } = policy.metadata;
    const known = this.#entries.get(name);
    // Mostly its status has changed.
    if (known && isDeepStrictEqual(known.policy.spec, policy.spec)) return [];
    const result = readyPolicy(policy);
    this.#entries.set(name, { policy, result });
    this.#sort();
    return Array.isArray(result) ? result : [];
  }

  delete(name: string): void {
    if (this.#entries.delete(name)) this.#sort();
  }

  #sort(): void {
    this.#ready = [...this.#entries.values()]
      .toSorted((a, b) => comparePolicies(a.policy, b.policy))
      .flatMap(({ result }) => (Array.isArray(result) ? [] : [result]));
  }
}
