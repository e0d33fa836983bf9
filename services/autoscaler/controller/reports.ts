import type { Tracer } from "@opentelemetry/api";
import { Keys, type Logger, withSpan } from "../../../lib/telemetry/mod.ts";
import { type EventNote, EventRecorder, type KubeClient } from "../kube/mod.ts";
import type { ControllerMetrics } from "../metrics.ts";
import type { Action } from "../scaling/plan_placement.ts";
import type { ModelChange, ModelFailure } from "../scaling/scaled_model.ts";
import type { PoolChange } from "../scaling/scaler.ts";
import type { DecisionLogs } from "./context.ts";
import type { ModelObject, PoolObject } from "./resources.ts";

export interface ReportsOptions {
  readonly client: KubeClient;
  /** What events name as their source, and which process of it. */
  readonly component: string;
  readonly identity: string;
  readonly log: Logger;
  readonly metrics: ControllerMetrics;
  readonly tracer: Tracer;
  readonly decisions: DecisionLogs;
  readonly modelOf: (name: string) => ModelObject | undefined;
  readonly poolOf: (name: string) => PoolObject | undefined;
}

/** Tells people what was decided and done: log, metrics, spans, Events, statuses. */
export class Reports {
  readonly #options: ReportsOptions;
  readonly #events: EventRecorder;

  constructor(options: ReportsOptions) {
    this.#options = options;
    const { client, component, identity, log } = options;
    this.#events = new EventRecorder({
      client,
      component,
      instance: identity,
      nowMs: Date.now,
      onFailure: (reason) => log.warn({ err: reason }, "Cannot write an event"),
    });
  }

  event(note: EventNote): void {
    this.#events.record(note);
  }

  /** Waits for the events that are being written. */
  flush(): Promise<void> {
    return this.#events.flush();
  }

  poolDecided({ pool, from, decision, wakeOf }: PoolChange): void {
    const { log, metrics, decisions, poolOf } = this.#options;
    const { wanted: to, reason, numbers } = decision;
    log.info({ pool, from, to, reason, numbers, wakeOf }, "Pool decided");
    const direction = to > from ? "up" : "down";
    metrics.decisions.inc({ what: "pool", direction });
    const about = poolOf(pool);
    decisions.add(
      `pool/${pool}`,
      about?.status?.decisions ?? [],
      { what: `replicas ${from} -> ${to}`, reason, numbers },
      Date.now(),
    );
    if (!about) return;
    const waiting = wakeOf === undefined ? "" : `, requests wait for ${wakeOf}`;
    this.event({
      about,
      type: "Normal",
      reason: "Scaled",
      message: `${from} -> ${to} pods: ${reason}${waiting}`,
    });
  }

  modelDecided(change: ModelChange): void {
    const { metrics, decisions, modelOf } = this.#options;
    const { model, from, decision } = change;
    const { replicas, residency, reason, numbers } = decision;
    this.#trace(change);
    metrics.modelCopies.set({ model }, replicas);
    if (from.copies !== replicas) {
      const direction = replicas > from.copies ? "up" : "down";
      metrics.decisions.inc({ what: "model", direction });
    }
    decisions.add(
      `model/${model}`,
      modelOf(model)?.status?.decisions ?? [],
      {
        what: `workers ${from.copies} -> ${replicas}, ${residency}`,
        reason,
        numbers,
      },
      Date.now(),
    );
  }

  placed({ kind, worker, model }: Action, tookMs: number): void {
    const { log, metrics } = this.#options;
    log.info({ action: kind, worker, model, ms: Math.round(tookMs) }, "Placed");
    metrics.placements.inc({ action: kind, outcome: "ok" });
    this.#tellOf(model, {
      type: "Normal",
      reason: eventReasons[kind],
      message: `${eventReasons[kind]} on ${worker}`,
    });
  }

  placementFailed(model: string, failure: ModelFailure): void {
    const { log, metrics } = this.#options;
    log.warn({ model, ...failure }, "A worker refused");
    metrics.placements.inc({ action: "any", outcome: "failed" });
    this.#tellOf(model, {
      type: "Warning",
      reason: "PlacementFailed",
      message: `${failure.workerId}: ${failure.message}`,
    });
  }

  #tellOf(model: string, note: Omit<EventNote, "about">): void {
    const about = this.#options.modelOf(model);
    if (about) this.event({ about, ...note });
  }

  #trace({ model, policy, from, decision }: ModelChange): void {
    const { replicas, residency, reason, numbers } = decision;
    const attributes = {
      [Keys.requestModel]: model,
      "quetzal.scaling.policy": policy,
      "quetzal.scaling.replicas_before": from.copies,
      "quetzal.scaling.replicas_after": replicas,
      "quetzal.scaling.residency": residency,
      "quetzal.scaling.reason": reason,
      ...Object.fromEntries(
        Object.entries(numbers).map((
          [name, value],
        ) => [`quetzal.scaling.${name}`, value]),
      ),
    };
    const { tracer } = this.#options;
    withSpan({ tracer, name: "scale", attributes }, () => {});
  }
}

const eventReasons = {
  load: "Loaded",
  wake: "Woken",
  sleep: "Asleep",
  unload: "Unloaded",
};
