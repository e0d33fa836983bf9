import { Keys } from "../../../lib/telemetry/attributes.ts";
import type { ScalingDecision, Span } from "../api_types.ts";
import { numberOf, textOf } from "../trace/attributes_of.ts";

const perModel = 20;
const modelsMax = 2_000;
const prefix = "quetzal.scaling.";

/** The last decisions of the autoscaler, from its spans named "scale". */
export class ScalingDecisions {
  readonly #decisions = new Map<string, ScalingDecision[]>();

  add(traceId: string, spans: readonly Span[]): void {
    for (const { service, name, attributes, startAtMs } of spans) {
      if (service !== "autoscaler" || name !== "scale") continue;
      const model = textOf(attributes, Keys.requestModel) ??
        textOf(attributes, `${prefix}model`);
      if (model === null) continue;
      const list = this.#decisions.get(model) ?? [];
      if (list.length === 0 && this.#decisions.size >= modelsMax) continue;
      list.unshift({
        atMs: startAtMs,
        policy: textOf(attributes, `${prefix}policy`),
        replicasBefore: numberOf(attributes, `${prefix}replicas_before`),
        replicasAfter: numberOf(attributes, `${prefix}replicas_after`),
        reason: textOf(attributes, `${prefix}reason`),
        signals: Object.fromEntries(
          Object.entries(attributes).filter(([key]) => key.startsWith(prefix)),
        ),
        traceId,
      });
      list.splice(perModel);
      this.#decisions.set(model, list);
    }
  }

  of(model: string): readonly ScalingDecision[] {
    return this.#decisions.get(model) ?? [];
  }
}
