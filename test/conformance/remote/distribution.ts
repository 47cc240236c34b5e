export {
  startDistribution,
  type Distribution,
  type DistributionVersion,
} from "#test/distribution.ts";
