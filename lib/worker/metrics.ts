import type { SequenceEvent } from "../engine/types.ts";
import {
  createWorkerMetrics,
  type Logger,
  type ModelWorkerMetrics,
  type Registry,
} from "../telemetry/mod.ts";
import { counter } from "../telemetry/registry.ts";
import { deviceGauges } from "./device_metrics.ts";
import type { ModelObserver, WorkerObserver } from "./observer.ts";
import type { ServedModels } from "./served_models.ts";

export interface MeasuringObserver extends WorkerObserver {
  /** Copies what engines say of themselves into the gauges. */
  readGauges(models: ServedModels): void;
}

/** Counts what the services tell under the names of `quetzal:`. */
export function createMeasuringObserver(
  { registry, log }: { readonly registry: Registry; readonly log: Logger },
): MeasuringObserver {
  const metrics = createWorkerMetrics(registry);
  const failures = counter(registry, [
    "kv_transfer_errors_total",
    "KV transfers that ended early, by reason; the rest was computed here",
  ], { labelNames: ["model_name", "reason"] });
  const bytes = counter(registry, [
    "kv_transfer_bytes_total",
    "Bytes of KV blocks sent or taken",
  ], { labelNames: ["model_name"] });
  const observers = new Map<string, ModelObserver>();
  const readDevice = deviceGauges(registry);

  function create(model: string): ModelObserver {
    const modelBytes = bytes.labels(model);
    const own = metrics.forModel(model);
    return {
      ...sequenceMetrics(own),
      promptDone: ({ kv, cachedTokens, computedTokens }) => {
        own.prefixCacheQueries.inc(kv.tokenCount);
        own.prefixCacheHits.inc(cachedTokens);
        own.promptTokens.inc(computedTokens);
      },
      kvTransferFailed: (reason) => failures.labels(model, reason).inc(),
      kvTransferred: (count) => modelBytes.inc(count),
    };
  }

  return {
    warn: (message, details) => log.warn(details, message),
    forModel(model) {
      const known = observers.get(model);
      if (known !== undefined) return known;
      const created = create(model);
      observers.set(model, created);
      return created;
    },
    readGauges(models) {
      for (const { name, engine } of models) {
        const status = engine.status();
        const own = metrics.forModel(name);
        own.running.set(status.running);
        own.waiting.set(status.waiting);
        own.kvCacheUsage.set(1 - status.blocksFree / status.blocksTotal);
        readDevice(name, engine.device?.());
      }
    },
  };
}

function sequenceMetrics(
  own: ModelWorkerMetrics,
): Pick<ModelObserver, "sequenceEvent"> {
  // Each sequence of a step reports it; shares that add up to one make one observation.
  let stepShare = 0;
  return {
    sequenceEvent(event: SequenceEvent) {
      switch (event.kind) {
        case "tokens":
          own.generationTokens.inc(event.tokens.length);
          stepShare += 1 / event.batchSize;
          if (stepShare < 1) return;
          stepShare -= 1;
          own.stepTime.observe(event.stepUs / 1e6);
          return;
        case "started":
          own.prefixCacheQueries.inc(
            event.cachedTokens + event.transferredTokens + event.computedTokens,
          );
          own.prefixCacheHits.inc(event.cachedTokens);
          own.promptTokens.inc(event.computedTokens);
          return;
        case "finished":
          if (event.preemptions > 0) own.preemptions.inc(event.preemptions);
      }
    },
  };
}
