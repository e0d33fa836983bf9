import { leastLoad } from "./least_load.ts";
import { prefixAffinity } from "./prefix_affinity.ts";
import type { Policy } from "./types.ts";

export type { Candidate, Policy, RouteQuery } from "./types.ts";

/** Every routing policy there is; `QUETZAL_ROUTER_POLICY` names one. */
export const policies = {
  "least-load": leastLoad,
  "prefix-affinity": prefixAffinity,
} as const satisfies Readonly<Record<string, Policy>>;

export type PolicyName = keyof typeof policies;

export const policyNames = Object.keys(policies) as PolicyName[];

/** An unknown name is refused with the known ones. */
export function policyNamed(name: string): Policy {
  if (Object.hasOwn(policies, name)) return policies[name as PolicyName];
  throw new RangeError(
    `Cannot find routing policy "${name}": known are ${policyNames.join(", ")}`,
  );
}
