import type { Collector } from "./collector.ts";
import { createRegistry, type Registry } from "../../lib/telemetry/mod.ts";
import { counter, gauge } from "../../lib/telemetry/registry.ts";
import type { TraceStore } from "./store/mod.ts";

/** The dashboard's own numbers, read from its parts whenever somebody asks. */
export function createDashboardMetrics(
  { collector, store }: { collector: Collector; store: TraceStore },
): Registry {
  const registry = createRegistry();
  const counted = (
    name: string,
    help: string,
    value: () => number,
  ) => {
    counter(registry, [name, help], {
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  };
  counted(
    "dashboard_spans_total",
    "Spans received",
    () => collector.counts.spans,
  );
  counted(
    "dashboard_spans_rejected_total",
    "Spans that could not be read",
    () => collector.counts.rejected,
  );
  counted(
    "dashboard_spans_dropped_total",
    "Spans for which there was no room",
    () => collector.counts.dropped,
  );
  counted(
    "dashboard_spans_sampled_out_total",
    "Spans of traces that tail sampling let go",
    () => collector.counts.sampledOut,
  );
  gauge(registry, ["dashboard_store_bytes", "Bytes of the trace store"], {
    collect() {
      this.set(store.counts().bytes);
    },
  });
  gauge(registry, ["dashboard_store_traces", "Traces in the store"], {
    collect() {
      this.set(store.counts().traces);
    },
  });
  return registry;
}
