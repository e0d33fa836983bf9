import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "vitest";
import type { StepReport } from "../engine/types.ts";
import { createLogger, createRegistry } from "../telemetry/mod.ts";
import { createMeasuringObserver } from "./metrics.ts";
import { servedModel } from "./served_models.ts";
import { FakeEngine } from "./testing/fake_engine.ts";

class SteppingEngine extends FakeEngine {
  step: (report: StepReport) => void = () => {};

  onStep(listener: (report: StepReport) => void): Disposable {
    this.step = listener;
    return { [Symbol.dispose]() {} };
  }
}

function setUp() {
  const registry = createRegistry();
  const log = createLogger({ service: "test", level: "silent" });
  const observer = createMeasuringObserver({ registry, log });
  const engine = new SteppingEngine();
  observer.watch(servedModel("m", engine, []));
  const lines = async (name: string) =>
    (await registry.metrics()).split("\n").filter((line) =>
      line.startsWith(`quetzal:${name}`)
    );
  return { observer, engine, lines };
}

test("each step of an engine counts once, with the tokens in it", async () => {
  const { engine, lines } = setUp();
  engine.step({ tokens: 7, preemptions: 0 });
  engine.step({ tokens: 200, preemptions: 2 });
  const label = 'model_name="m"';
  deepEqual(await lines("iteration_tokens_total_count"), [
    `quetzal:iteration_tokens_total_count{${label}} 2`,
  ]);
  deepEqual(await lines("iteration_tokens_total_sum"), [
    `quetzal:iteration_tokens_total_sum{${label}} 207`,
  ]);
  deepEqual(await lines("num_preemptions_total"), [
    `quetzal:num_preemptions_total{${label}} 2`,
  ]);
});

test("the KV pool of a model shows in labels until the model leaves", async () => {
  const { observer, lines } = setUp();
  const [line, ...others] = await lines("cache_config_info");
  equal(others.length, 0);
  for (
    const part of [
      'model_name="m"',
      'block_size="16"',
      'num_gpu_blocks="100"',
      'cache_dtype="f16"',
    ]
  ) ok(line.includes(part), line);
  ok(line.endsWith(" 1"));
  observer.forget("m");
  deepEqual(await lines("cache_config_info"), []);
});
