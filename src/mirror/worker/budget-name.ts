import { scrypt } from "node:crypto";
import { promisify } from "node:util";

import { Semaphore } from "#async/semaphore.ts";
import type { BudgetAccount } from "#remote/budget-exchange.ts";

const derive = promisify<string, string, number, { N: number; r: number }, Buffer>(scrypt);

/** 16 MiB and some 50 ms for each name: whoever guesses passwords needs as much for each guess. */
const cost = { N: 2 ** 14, r: 8 };

/**
 * Makes the names of RegistryBudgets: the same for the same host and login in all workers of a cluster, and
 * others in each cluster. It is as hard to find a login by its name as by scrypt.
 *
 * @param cluster - the uid of the namespace `kube-system`.
 */
export function budgetNames(cluster: string): (account: BudgetAccount) => Promise<string> {
  const turns = new Semaphore(1);
  const { signal } = new AbortController();
  return async ({ host, login }) => {
    const who =
      login &&
      ("identityToken" in login ? [login.identityToken] : [login.username, login.password]);
    using _turn = await turns.acquire({ signal });
    const name = await derive(JSON.stringify([host, who ?? []]), cluster, 16, cost);
    return name.toString("hex");
  };
}
