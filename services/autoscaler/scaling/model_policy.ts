import type { Fault, ModelSpec } from "../crds/mod.ts";
import type { ModelCost } from "../forecast/latency_model.ts";
import { type BoundPolicy, policies, policyNamed } from "../policies/mod.ts";

export type PolicyOf =
  | { readonly kind: "policy"; readonly policy: BoundPolicy }
  | { readonly kind: "invalid"; readonly faults: readonly Fault[] };

/** What workers measured of a model, as far as known. */
export interface MeasuredModel {
  readonly weightsBytes?: number;
  readonly prefillTokensPerS?: number;
  readonly decodeTokensPerS?: number;
  /** From the first held request to a worker that serves. */
  readonly startMs?: number;
}

/** The policy of a Model with its settings, or what is wrong with them. */
export function policyOf(
  { scaling, slo }: ModelSpec,
  measured: MeasuredModel = {},
): PolicyOf {
  const { policy, replicasMin, replicasMax, settings = {} } = scaling;
  const faults = faultsOf(policy, settings);
  if (replicasMax < replicasMin) {
    faults.push({
      field: "spec.scaling.replicasMax",
      expected: `at least replicasMin, which is ${replicasMin}`,
      found: `${replicasMax}`,
    });
  }
  if (faults.length > 0) return { kind: "invalid", faults };
  return {
    kind: "policy",
    policy: policyNamed(policy, {
      replicasMin,
      replicasMax,
      ...translated(policy, scaling, slo, measured),
      ...settings,
    }),
  };
}

/** The Model's fields in the words of its policy. */
function translated(
  policy: keyof typeof policies,
  { targetPerReplica, idleSeconds, replicasMin }: ModelSpec["scaling"],
  slo: ModelSpec["slo"],
  measured: MeasuredModel,
): Record<string, unknown> {
  const idleMs = idleSeconds * 1_000;
  switch (policy) {
    case "target":
      return {
        metric: { kind: "total", read: "concurrency", targetPerReplica },
        shrinkDelayMs: idleMs,
      };
    case "tail":
      return {
        cost: costOf(measured),
        ttftTargetMs: slo.ttftMs,
        sloShare: slo.share,
        keepDefaultMs: idleMs,
      };
    case "knative-kpa":
      return {
        concurrencyPerReplica: targetPerReplica,
        targetUtilization: 1,
        podRetentionMs: idleMs,
      };
    case "hpa":
      // It has nobody to hold requests, so it never goes below one.
      return {
        replicasMin: Math.max(1, replicasMin),
        targetPerReplica,
        scaleDownWindowMs: idleMs,
      };
    case "aibrix-apa":
    case "aibrix-kpa":
      return { targetPerReplica, scaleDownWindowMs: idleMs };
    case "scheduled":
      return {};
  }
}

function costOf(measured: MeasuredModel): ModelCost {
  const { cost } = policies.tail.defaults;
  const { prefillTokensPerS = 0, decodeTokensPerS = 0 } = measured;
  return {
    ...cost,
    ...measured.weightsBytes && { weightsBytes: measured.weightsBytes },
    ...prefillTokensPerS > 0 && { prefillTokensPerS },
    ...decodeTokensPerS > 0 && { stepMs: 1_000 / decodeTokensPerS },
    ...measured.startMs && { startMs: measured.startMs },
  };
}

/** A typo in a setting would otherwise leave its default in place without a word. */
function faultsOf(
  policy: keyof typeof policies,
  settings: Readonly<Record<string, unknown>>,
): Fault[] {
  const defaults: Readonly<Record<string, unknown>> = {
    ...policies[policy].defaults,
  };
  return Object.entries(settings).flatMap(([name, value]) => {
    const field = `spec.scaling.settings.${name}`;
    if (!Object.hasOwn(defaults, name)) {
      const known = Object.keys(defaults).join(", ");
      return [{
        field,
        expected: `a setting of the policy ${policy}: ${known}`,
        found: `"${name}"`,
      }];
    }
    const wanted = kindOf(defaults[name]);
    const isFine = kindOf(value) === wanted &&
      (typeof value !== "number" || (Number.isFinite(value) && value >= 0));
    return isFine ? [] : [{
      field,
      expected: wanted === "number" ? "a number of at least 0" : `a ${wanted}`,
      found: JSON.stringify(value),
    }];
  });
}

function kindOf(value: unknown): string {
  return Array.isArray(value) ? "list" : typeof value;
}
