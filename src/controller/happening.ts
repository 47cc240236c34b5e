/** What is to be told of an object's new status, as an event about it. */
export interface Happening {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly action: string;
  readonly note: string;
  /** The reference that it is about, if it is about one alone. */
  readonly subject?: string;
}
