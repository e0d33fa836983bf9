import type { SequenceEvent } from "../engine/types.ts";
import {
  createWorkerMetrics,
  type Logger,
  type ModelWorkerMetrics,
  type Registry,
} from "../telemetry/mod.ts";
import { counter, gauge } from "../telemetry/registry.ts";
import { deviceGauges } from "./device_metrics.ts";
import type { MemoryBudget } from "./memory_budget.ts";
import type { ModelChange } from "./model_host.ts";
import type { ModelObserver, WorkerObserver } from "./observer.ts";
import type { ServedModel, ServedModels } from "./served_models.ts";

export interface MeasuringObserver extends WorkerObserver {
  /** Copies what engines say of themselves into the gauges. */
  readGauges(models: ServedModels, budget: MemoryBudget): void;
  /** Counts how models came and went. */
  modelChanged(change: ModelChange): void;
  /** Counts what its engine does from now on; the model came. */
  watch(model: ServedModel): void;
  /** Takes the series of a model away that has left. */
  forget(model: string): void;
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
  const changes = counter(registry, [
    "model_changes_total",
    "Models loaded, unloaded, put to sleep or woken, by outcome",
  ], { labelNames: ["change", "outcome"] });
  const lastChange = gauge(registry, [
    "model_change_seconds",
    "How long the last change of that kind took",
  ], { labelNames: ["change"] });
  const memoryTotal = gauge(registry, [
    "model_memory_bytes_total",
    "What models may take together",
  ], {});
  const memoryFree = gauge(registry, [
    "model_memory_bytes_free",
    "What models do not take of that",
  ], {});
  const cacheConfig = gauge(registry, [
    "cache_config_info",
    "How the KV pool is set up, in labels; always 1",
  ], { labelNames: cacheLabelNames });
  /** Label values in use, so that they can be taken away. */
  const cacheLabels = new Map<string, CacheLabels>();
  const reasons = new Map<string, Set<string>>();
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
      embedded: ({ cachedTokens, computedTokens }) => {
        own.prefixCacheQueries.inc(cachedTokens + computedTokens);
        own.prefixCacheHits.inc(cachedTokens);
        own.promptTokens.inc(computedTokens);
      },
      kvTransferFailed(reason) {
        failures.labels(model, reason).inc();
        reasons.set(model, (reasons.get(model) ?? new Set()).add(reason));
      },
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
    modelChanged({ kind, ms, error }) {
      changes.labels(kind, error === undefined ? "done" : "failed").inc();
      if (error === undefined) lastChange.labels(kind).set(ms / 1_000);
    },
    watch({ name, engine }) {
      const own = metrics.forModel(name);
      engine.onStep?.(({ tokens, preemptions }) => {
        own.batchTokens.observe(tokens);
        if (preemptions > 0) own.preemptions.inc(preemptions);
      });
      const labels: CacheLabels = {
        model_name: name,
        block_size: engine.blockTokens,
        num_gpu_blocks: engine.status().blocksTotal,
        cache_dtype: engine.kvType,
        enable_prefix_caching: "True",
      };
      cacheLabels.set(name, labels);
      cacheConfig.labels(labels).set(1);
    },
    forget(model) {
      observers.delete(model);
      metrics.forget(model);
      const labels = cacheLabels.get(model);
      if (labels !== undefined) cacheConfig.remove(labels);
      cacheLabels.delete(model);
      bytes.remove(model);
      for (const reason of reasons.get(model) ?? []) {
        failures.remove(model, reason);
      }
      reasons.delete(model);
    },
    readGauges(models, budget) {
      memoryTotal.set(budget.bytesTotal);
      memoryFree.set(budget.bytesFree);
      for (const { name, engine } of models) {
        const status = engine.status();
        const own = metrics.forModel(name);
        own.running.set(status.running);
        own.waiting.set(status.waiting);
        own.weightBytes.set(engine.weightBytes);
        own.kvBytes.set(engine.kvBytes);
        own.kvCacheUsage.set(1 - status.blocksFree / status.blocksTotal);
        readDevice(name, engine.device?.());
      }
    },
  };
}

/** As vLLM names them, so that its users' panels find them. */
const cacheLabelNames = [
  "model_name",
  "block_size",
  "num_gpu_blocks",
  "cache_dtype",
  "enable_prefix_caching",
] as const;

type CacheLabels = Record<typeof cacheLabelNames[number], string | number>;

function sequenceMetrics(
  own: ModelWorkerMetrics,
): Pick<ModelObserver, "sequenceEvent"> {
  // Each sequence of a step reports it; shares that add up to one make one observation.
  let stepShare = 0;
  let tokenCount = 0;
  const countTokens = () => {
    own.generationTokens.inc(tokenCount);
    tokenCount = 0;
  };
  return {
    sequenceEvent(event: SequenceEvent) {
      switch (event.kind) {
        case "tokens":
          tokenCount += event.tokens.length;
          stepShare += 1 / event.batchSize;
          if (stepShare < 1) return;
          stepShare -= 1;
          countTokens();
          own.stepTime.observe(event.stepUs / 1e6);
          return;
        case "finished":
          countTokens();
          return;
        case "started":
          own.prefixCacheQueries.inc(
            event.cachedTokens + event.transferredTokens + event.computedTokens,
          );
          own.prefixCacheHits.inc(event.cachedTokens);
          own.promptTokens.inc(event.computedTokens);
      }
    },
  };
}
