import { counter, gauge, histogram } from "../../lib/telemetry/registry.ts";
import type { Registry } from "../../lib/telemetry/mod.ts";

/** Series of the controller under `/metrics`. */
export function createControllerMetrics(registry: Registry) {
  const of = <const L extends string>(labelNames: readonly L[]) => ({
    labelNames: [...labelNames],
  });
  return {
    leading: gauge(registry, [
      "controller_leading",
      "1 while this process is the leader",
    ], of([])),
    reconciles: counter(registry, [
      "controller_reconciles_total",
      "Reconciles by kind and outcome",
    ], of(["kind", "outcome"])),
    reconcileSeconds: histogram(registry, [
      "controller_reconcile_seconds",
      "Duration of a reconcile",
    ], { ...of(["kind"]), buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5] }),
    queueDepth: gauge(registry, [
      "controller_queue_depth",
      "Keys that are due or being worked on",
    ], of([])),
    writes: counter(registry, [
      "controller_writes_total",
      "Writes to the API server by kind of object",
    ], of(["kind"])),
    conflicts: counter(registry, [
      "controller_field_conflicts_total",
      "Fields left to other owners",
    ], of([])),
    relists: counter(registry, [
      "controller_relists_total",
      "Full lists by resource and why: start, expired, malformed",
    ], of(["resource", "why"])),
    watchFailures: counter(registry, [
      "controller_watch_failures_total",
      "Watches that broke off",
    ], of(["resource"])),
    decisions: counter(registry, [
      "controller_decisions_total",
      "Decisions that changed something, by direction",
    ], of(["what", "direction"])),
    poolReplicas: gauge(registry, [
      "pool_replicas_wanted",
      "Pods wanted",
    ], of(["pool"])),
    modelCopies: gauge(registry, [
      "model_replicas_wanted",
      "Workers that should have the model",
    ], of(["model"])),
    wakeSeconds: histogram(registry, [
      "model_cold_start_seconds",
      "From the first held request to a worker that serves",
    ], {
      ...of([]),
      buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300],
    }),
    wakeToPatchSeconds: histogram(registry, [
      "controller_wake_to_patch_seconds",
      "From the wake message to the patched Deployment",
    ], {
      ...of([]),
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    }),
    placements: counter(registry, [
      "controller_placements_total",
      "Calls to workers by action and outcome",
    ], of(["action", "outcome"])),
    blind: gauge(registry, [
      "controller_blind",
      "1 while nothing is decided: NATS is away, or was until a moment ago",
    ], of([])),
    invalid: gauge(registry, [
      "controller_invalid_objects",
      "Objects whose spec is refused",
    ], of([])),
  };
}

export type ControllerMetrics = ReturnType<typeof createControllerMetrics>;
