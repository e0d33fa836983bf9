/** One trace from the caller over decode to prefill. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { context, trace } from "@opentelemetry/api";
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-node";
import { afterAll, afterEach, test } from "vitest";
import { waitFor } from "../../../lib/testing/mod.ts";
import { FakeEngine } from "../../../lib/worker/testing/fake_engine.ts";
import {
  generate,
  type Pair,
  type PairOptions,
  requestOf,
  startPair,
} from "./start_pair.ts";

const exporter = new InMemorySpanExporter();
const provider = new NodeTracerProvider({
  spanProcessors: [new SimpleSpanProcessor(exporter)],
});
provider.register();
afterAll(() => provider.shutdown());

let pair: Pair | undefined;
afterEach(async () => {
  await pair?.[Symbol.asyncDispose]();
  pair = undefined;
  exporter.reset();
});

/** Runs one request inside a span of the caller; answers all spans by name. */
async function traced(
  options: Partial<PairOptions>,
): Promise<Map<string, ReadableSpan>> {
  pair = await startPair({
    prefillEngines: { fake: new FakeEngine() },
    decodeEngines: { fake: new FakeEngine() },
    ...options,
  });
  const running = pair;
  const root = provider.getTracer("test").startSpan("root");
  await context.with(
    trace.setSpan(context.active(), root),
    () =>
      generate(running, requestOf({ prefillAddress: running.prefill.address })),
  );
  root.end();
  const byName = () =>
    new Map(exporter.getFinishedSpans().map((span) => [span.name, span]));
  await waitFor(() =>
    byName().has("decode.generate") && byName().has("prefill.run")
  );
  return byName();
}

test("queue, KV fetch and prefill hang under the caller's trace", async () => {
  const spans = await traced({});
  const parents = Object.fromEntries(
    [...spans].map(([name, { parentSpanContext }]) => [
      name,
      [...spans.values()].find((span) =>
        span.spanContext().spanId === parentSpanContext?.spanId
      )?.name,
    ]),
  );
  deepEqual(parents, {
    root: undefined,
    "decode.generate": "root",
    "decode.queue": "decode.generate",
    "kv.fetch": "decode.generate",
    "prefill.run": "kv.fetch",
  });
  const ids = new Set(
    [...spans.values()].map((span) => span.spanContext().traceId),
  );
  equal(ids.size, 1);

  const fetch = spans.get("kv.fetch")!.attributes;
  equal(fetch["quetzal.kv.bytes"], 7 * 256);
  equal(fetch["quetzal.block.count"], 7);
  ok(Number(fetch["quetzal.kv.bytes_per_s"]) > 0);
  const generated = spans.get("decode.generate")!;
  equal(generated.attributes["gen_ai.usage.output_tokens"], 8);
  equal(generated.attributes["quetzal.transferred_tokens"], 100);
  equal(generated.attributes["quetzal.step.count"], 8);
  equal(generated.events.filter(({ name }) => name === "step").length, 8);
  const prefill = spans.get("prefill.run")!;
  equal(prefill.attributes["quetzal.kv.bytes"], 7 * 256);
  ok(prefill.events.filter(({ name }) => name === "chunk").length >= 3);
});

test("a failed transfer says why in its span; the sequence itself did not fail", async () => {
  const spans = await traced({ fault: "corrupt" });
  const fetch = spans.get("kv.fetch")!;
  equal(fetch.attributes["quetzal.kv.reason"], "checksum");
  equal(fetch.status.code, 2);
  equal(spans.get("decode.generate")!.status.code, 0);
});
