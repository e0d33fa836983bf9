/** The scaling policies by name; an unknown name lists the known ones. */
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { aibrixApa } from "./aibrix_apa.ts";
import { aibrixKpa } from "./aibrix_kpa.ts";
import { hpa } from "./hpa.ts";
import { knativeKpa } from "./knative_kpa.ts";
import { bindPolicy, type BoundPolicy } from "./policy.ts";
import { scheduled } from "./scheduled.ts";
import { tail } from "./tail.ts";
import { target } from "./target.ts";

export const policies = {
  target,
  "knative-kpa": knativeKpa,
  "aibrix-apa": aibrixApa,
  "aibrix-kpa": aibrixKpa,
  hpa,
  scheduled,
  tail,
};

export type PolicyName = keyof typeof policies;

export const policyNames = Object.keys(policies) as PolicyName[];

/** `overrides` are fields of the policy's configuration; the rest are its defaults. */
export function policyNamed(
  name: string,
  overrides: Readonly<Record<string, unknown>> = {},
): BoundPolicy {
  switch (name) {
    case "target":
      return bindPolicy(name, target, overrides);
    case "knative-kpa":
      return bindPolicy(name, knativeKpa, overrides);
    case "aibrix-apa":
      return bindPolicy(name, aibrixApa, overrides);
    case "aibrix-kpa":
      return bindPolicy(name, aibrixKpa, overrides);
    case "hpa":
      return bindPolicy(name, hpa, overrides);
    case "scheduled":
      return bindPolicy(name, scheduled, overrides);
    case "tail":
      return bindPolicy(name, tail, overrides);
  }
  throw new MeshError(
    Code.invalidArgument,
    `Cannot scale by policy "${name}": needs one of ${policyNames.join(", ")}`,
  );
}

export type {
  BoundPolicy,
  Decision,
  Policy,
  Residency,
  ScalingBounds,
} from "./policy.ts";
