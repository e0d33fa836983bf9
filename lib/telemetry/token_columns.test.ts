import { deepEqual, equal } from "node:assert/strict";
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-node";
import { INVALID_SPAN_CONTEXT, trace } from "@opentelemetry/api";
import { test } from "vitest";
import { createTokenColumns, Keys } from "./mod.ts";

const exporter = new InMemorySpanExporter();
const tracer = new NodeTracerProvider({
  spanProcessors: [new SimpleSpanProcessor(exporter)],
}).getTracer("test");

function eventsOf(
  write: (columns: ReturnType<typeof createTokenColumns>) => void,
  options = {},
) {
  const span = tracer.startSpan("decode");
  const columns = createTokenColumns(span, options);
  write(columns);
  columns.flush();
  span.end();
  const [finished] = exporter.getFinishedSpans();
  exporter.reset();
  return finished.events;
}

test("steps are packed side by side, tokens of one step stay together", () => {
  const [event] = eventsOf((columns) => {
    columns.add({ provenance: "p", batchSize: 1, stepUs: 900 });
    columns.add({ provenance: "aac", batchSize: 4, stepUs: 1_100 });
  });
  equal(event.name, "tokens");
  equal(event.attributes![Keys.tokenProvenance], "p,aac");
  equal(event.attributes![Keys.tokenBatchSizes], "1,4");
  equal(event.attributes![Keys.tokenStepUs], "900,1100");
  equal(`${event.attributes![Keys.tokenGapsUs]}`.split(",").length, 2);
  equal(event.attributes![Keys.tokenTexts], undefined);
});

test("ids and texts appear only when given", () => {
  const [event] = eventsOf((columns) =>
    columns.add({
      provenance: "p",
      batchSize: 1,
      stepUs: 1,
      ids: [7],
      texts: ['",'],
    })
  );
  equal(event.attributes![Keys.tokenIds], "7");
  deepEqual(JSON.parse(`${event.attributes![Keys.tokenTexts]}`), ['",']);
});

test("a long answer fills several events, up to a bound", () => {
  const step = { provenance: "p", batchSize: 1, stepUs: 1 };
  const events = eventsOf((columns) => {
    for (let i = 0; i < 25; i++) columns.add(step);
  }, { stepsPerEvent: 10, eventsMax: 2 });
  deepEqual(
    events.map(({ attributes }) =>
      `${attributes![Keys.tokenProvenance]}`.split(",").length
    ),
    [10, 10],
  );
});

test("nothing is gathered for a span that nobody records", () => {
  const columns = createTokenColumns(
    trace.wrapSpanContext(INVALID_SPAN_CONTEXT),
  );
  columns.add({ provenance: "p", batchSize: 1, stepUs: 1 });
  columns.flush();
});
