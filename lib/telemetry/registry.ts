import {
  Counter,
  type CounterConfiguration,
  Gauge,
  type GaugeConfiguration,
  Histogram,
  type HistogramConfiguration,
  Registry,
} from "prom-client";
import {
  WeightedHistogram,
  type WeightedHistogramOptions,
} from "./weighted_histogram.ts";

export type { Registry };

/** One registry per service; `await registry.metrics()` is the text of `/metrics`. */
export function createRegistry(): Registry {
  return new Registry();
}

/** Our counterpart of vLLM's `vllm:`. */
const prefix = "quetzal:";

type Spec<C> = Omit<C, "name" | "registers" | "help">;

export function counter(
  registry: Registry,
  [name, help]: NameAndHelp,
  spec: Spec<CounterConfiguration<string>>,
): Counter {
  return new Counter({
    name: prefix + name,
    help,
    registers: [registry],
    ...spec,
  });
}

export function gauge(
  registry: Registry,
  [name, help]: NameAndHelp,
  spec: Spec<GaugeConfiguration<string>>,
): Gauge {
  return new Gauge({
    name: prefix + name,
    help,
    registers: [registry],
    ...spec,
  });
}

export function histogram(
  registry: Registry,
  [name, help]: NameAndHelp,
  spec: Spec<HistogramConfiguration<string>>,
): Histogram {
  return new Histogram({
    name: prefix + name,
    help,
    registers: [registry],
    ...spec,
  });
}

export function weightedHistogram(
  registry: Registry,
  [name, help]: NameAndHelp,
  spec: Pick<WeightedHistogramOptions, "labelName" | "buckets">,
): WeightedHistogram {
  return new WeightedHistogram(registry, {
    name: prefix + name,
    help,
    ...spec,
  });
}

export type NameAndHelp = readonly [name: string, help: string];

/**
 * Finds the label children of a model, made once: resolving labels for each token would cost
 * more than counting it.
 *
 * Past `modelsMax` names all further ones share the label "other": names may come
 * from requests, and each costs some 300 series.
 */
export function perModel<M>(
  make: (model: string) => M,
  modelsMax = 1_000,
): PerModel<M> {
  const made = new Map<string, M>();
  function forModel(model: string): M {
    const known = made.get(model);
    if (known) return known;
    if (made.size >= modelsMax && model !== otherModels) {
      return forModel(otherModels);
    }
    const fresh = make(model);
    made.set(model, fresh);
    return fresh;
  }
  return Object.assign(forModel, {
    forget: (model: string) => made.delete(model),
  });
}

export interface PerModel<M> {
  (model: string): M;
  /** Whether it had children of its own, whose series are the caller's to remove. */
  forget(model: string): boolean;
}

const otherModels = "other";
