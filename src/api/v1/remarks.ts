/**
 * Reasons in a NodeReport that say something of an image besides whether a pull failed, and that the
 * Image's conditions tell of:
 *
 * - `TagMoved`: it is there, and its digest is not the one that the plan gives.
 * - `RemovedRepeatedly`: somebody, such as the kubelet's garbage collection, removes it again and again.
 * - `InsufficientDisk`: it would not fit.
 */
export const remarks = ["TagMoved", "RemovedRepeatedly", "InsufficientDisk"] as const;

export type Remark = (typeof remarks)[number];

/** Whether a reported reason is one of them. */
export function isRemark(reason: string | undefined): reason is Remark {
  return remarks.some((remark) => remark === reason);
}
