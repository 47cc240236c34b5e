/** What may be done with a repository, in the words of token scopes. */
export type Actions = "pull" | "pull,push" | "pull,push,delete";

/** Formats a scope of distribution's token specification. */
export function repositoryScope(path: string, actions: Actions): string {
  return `repository:${path}:${actions}`;
}

/** Joins scopes that are about the same thing, in the order in which things come first. */
export function mergeScopes(scopes: readonly string[]): string[] {
  const merged = new Map<string, Set<string>>();
  for (const scope of scopes) {
    const colon = scope.lastIndexOf(":");
    const actions = merged.getOrInsertComputed(scope.slice(0, colon + 1), () => new Set());
    for (const action of scope.slice(colon + 1).split(",")) if (action) actions.add(action);
  }
  return [...merged]
    .filter(([thing]) => thing !== "")
    .map(([thing, actions]) => thing + [...actions].join(","));
}
