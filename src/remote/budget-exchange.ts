import type { Login } from "./keyring.ts";
import type { Told } from "./rate-limit.ts";

/** Whose requests to which host have a budget. */
export interface BudgetAccount {
  /** As it stands in the URL. */
  readonly host: string;
  readonly login: Login | undefined;
}

/** The budget of one login at one host in this process, as an exchange sees it. */
export interface ExchangedBudget extends BudgetAccount {
  /** What is known of it here, by whomever it was told. */
  known(): Told;
  /** Takes over what another process was told. */
  learn(told: Told): void;
}

/** A budget's place in an exchange. Disposed when nobody uses it any more and nothing is known of it. */
export interface BudgetLink extends Disposable {
  /** Says that a registry told something new. */
  changed(): void;
}

/**
 * Where processes that use the same logins tell one another what registries told them. Nothing of it
 * may throw.
 */
export interface BudgetExchange {
  /** How many of the requests that a registry still grants this process may have on their way at once. */
  shareOf(left: number): number;
  /** Has a budget told what other processes know of it, and will know; not before this has returned. */
  join(budget: ExchangedBudget): BudgetLink;
}
