import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "vitest";
import {
  createRegistry,
  createRequestMetrics,
  createWorkerMetrics,
  type Registry,
  serveMetrics,
} from "./mod.ts";

interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: Map<string, number>;
}

/** Reads the Prometheus text format, strictly: an unknown line is an error. */
function parse(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  let help = "";
  let current: Family | undefined;
  for (const line of text.split("\n").filter((line) => line !== "")) {
    const helped = /^# HELP (\S+) (.+)$/.exec(line);
    const typed = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
    const sample = /^([a-z_:]+(?:\{[^}]*\})?) (-?[\d.e+-]+|\+Inf|NaN)$/i.exec(
      line,
    );
    if (helped) help = helped[2];
    else if (typed) {
      current = { type: typed[2], help, samples: new Map() };
      families.set(typed[1], current);
    } else if (sample && current) {
      current.samples.set(sample[1], Number(sample[2]));
    } else throw new Error(`Cannot read "${line}"`);
  }
  return families;
}

async function families(registry: Registry) {
  return parse(await registry.metrics());
}

test("the router's metrics bear vLLM's names", async () => {
  const registry = createRegistry();
  createRequestMetrics(registry);
  const types = [...await families(registry)].map(([name, { type }]) =>
    `${type} ${name}`
  );
  const wanted = [
    "gauge quetzal:num_requests_running",
    "gauge quetzal:num_requests_waiting",
    "counter quetzal:prompt_tokens_total",
    "counter quetzal:generation_tokens_total",
    "counter quetzal:request_success_total",
    "histogram quetzal:time_to_first_token_seconds",
    "histogram quetzal:inter_token_latency_seconds",
    "histogram quetzal:e2e_request_latency_seconds",
    "histogram quetzal:request_queue_time_seconds",
    "histogram quetzal:request_prefill_time_seconds",
    "histogram quetzal:request_decode_time_seconds",
    "histogram quetzal:request_inference_time_seconds",
    "histogram quetzal:request_params_max_tokens",
    "histogram quetzal:request_params_n",
  ];
  deepEqual(wanted.filter((entry) => !types.includes(entry)), []);
});

test("the workers' metrics bear vLLM's names", async () => {
  const registry = createRegistry();
  createWorkerMetrics(registry);
  const types = [...await families(registry)].map(([name, { type }]) =>
    `${type} ${name}`
  );
  const wanted = [
    "gauge quetzal:num_requests_running",
    "gauge quetzal:num_requests_waiting",
    "gauge quetzal:kv_cache_usage_perc",
    "counter quetzal:prefix_cache_queries_total",
    "counter quetzal:prefix_cache_hits_total",
    "counter quetzal:prompt_tokens_total",
    "counter quetzal:generation_tokens_total",
  ];
  deepEqual(wanted.filter((entry) => !types.includes(entry)), []);
});

test("what is counted shows under the model's label", async () => {
  const registry = createRegistry();
  const model = createRequestMetrics(registry).forModel('qwen2.5"0.5b"');
  model.running.inc();
  model.succeeded("stop");
  model.failed("unavailable");
  model.timeToFirstToken.observe(0.02);
  model.timeToFirstToken.observe(3);
  const found = await families(registry);
  const value = (family: string, sample: string) =>
    found.get(`quetzal:${family}`)?.samples.get(`quetzal:${sample}`);
  const label = String.raw`model_name="qwen2.5\"0.5b\""`;
  equal(value("num_requests_running", `num_requests_running{${label}}`), 1);
  equal(
    value(
      "request_success_total",
      `request_success_total{${label},finished_reason="stop"}`,
    ),
    1,
  );
  const first = "time_to_first_token_seconds";
  equal(value(first, `${first}_count{${label}}`), 2);
  equal(value(first, `${first}_sum{${label}}`), 3.02);
  equal(value(first, `${first}_bucket{le="0.02",${label}}`), 1);
  equal(value(first, `${first}_bucket{le="5",${label}}`), 2);
});

test("tokens of one message count one by one", async () => {
  const registry = createRegistry();
  const { interTokenLatency } = createRequestMetrics(registry).forModel("m");
  interTokenLatency.observe(0.03, 4);
  interTokenLatency.observe(0.03);
  interTokenLatency.observe(100, 2);
  const name = "quetzal:inter_token_latency_seconds";
  const { samples } = (await families(registry)).get(name)!;
  const label = 'model_name="m"';
  equal(samples.get(`${name}_count{${label}}`), 7);
  equal(samples.get(`${name}_sum{${label}}`), 200.15);
  equal(samples.get(`${name}_bucket{le="0.025",${label}}`), 0);
  equal(samples.get(`${name}_bucket{le="0.05",${label}}`), 5);
  equal(samples.get(`${name}_bucket{le="80",${label}}`), 5);
  equal(samples.get(`${name}_bucket{le="+Inf",${label}}`), 7);
});

test("a message of many tokens costs no more than one of one token", () => {
  const { interTokenLatency } = createRequestMetrics(createRegistry())
    .forModel("m");
  const rounds = [1, 2, 3].map(() => {
    const startMs = performance.now();
    for (let i = 0; i < 100_000; i++) interTokenLatency.observe(0.03, 50);
    return (performance.now() - startMs) / 100;
  });
  // Measured 0.03 us.
  ok(Math.min(...rounds) < 2, `${rounds} µs`);
});

test("every metric has a sentence of help", async () => {
  const registry = createRegistry();
  createRequestMetrics(registry);
  for (const [name, { help }] of await families(registry)) {
    ok(help.length > 10, name);
  }
});

test("model names from outside cannot grow the metrics without bound", async () => {
  const registry = createRegistry();
  const metrics = createWorkerMetrics(registry);
  for (let i = 0; i < 1_500; i++) metrics.forModel(`m-${i}`).preemptions.inc();
  const family = (await families(registry)).get(
    "quetzal:num_preemptions_total",
  );
  equal(family?.samples.size, 1_001);
  equal(
    family?.samples.get('quetzal:num_preemptions_total{model_name="other"}'),
    500,
  );
});

test("counting a token costs less than 20 µs even on a busy machine", () => {
  const model = createRequestMetrics(createRegistry()).forModel("m");
  const rounds = [1, 2, 3].map(() => {
    const startMs = performance.now();
    for (let i = 0; i < 20_000; i++) {
      model.interTokenLatency.observe(0.03);
      model.generationTokens.inc();
    }
    return (performance.now() - startMs) / 20;
  });
  const bestUs = Math.min(...rounds);
  ok(bestUs < 20, `${bestUs} µs`);
});

test("serveMetrics() serves metrics and health", async () => {
  const registry = createRegistry();
  createWorkerMetrics(registry).forModel("m").running.set(2);
  let ok = true;
  await using server = await serveMetrics({
    port: 0,
    host: "127.0.0.1",
    registry,
    health: () => ok ? { ok } : { ok, reason: "draining" },
  });
  const get = (path: string, method = "GET") =>
    fetch(`http://127.0.0.1:${server.port}${path}`, { method });
  const metrics = await get("/metrics");
  match(metrics.headers.get("content-type") ?? "", /^text\/plain/);
  match(
    await metrics.text(),
    /quetzal:num_requests_running\{model_name="m"\} 2/,
  );
  equal((await get("/health?probe=1")).status, 200);
  ok = false;
  const unhealthy = await get("/health");
  equal(unhealthy.status, 503);
  deepEqual(await unhealthy.json(), { ok: false, reason: "draining" });
  equal((await get("/constructor")).status, 404);
  equal((await get("/metrics", "POST")).status, 405);
});

test("serveMetrics() counts a health check that throws as not ready", async () => {
  await using server = await serveMetrics({
    port: 0,
    host: "127.0.0.1",
    registry: createRegistry(),
    health: () => {
      throw new Error("engine is gone");
    },
  });
  const answer = await fetch(`http://127.0.0.1:${server.port}/health`);
  equal(answer.status, 503);
  equal(await answer.text(), "engine is gone\n");
});

test("serveMetrics() says that a port is taken", async () => {
  const registry = createRegistry();
  await using server = await serveMetrics({
    port: 0,
    host: "127.0.0.1",
    registry,
  });
  await rejects(
    serveMetrics({ port: server.port, host: "127.0.0.1", registry }),
    { code: "EADDRINUSE" },
  );
});
