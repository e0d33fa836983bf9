import { deepEqual, equal, ok } from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, test } from "vitest";
import {
  createLocalBus,
  type MeshBus,
  type WorkerRecord,
} from "../../../lib/bus/mod.ts";
import {
  workerModel,
  workerRecord,
} from "../../../lib/bus/testing/worker_records.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import { LiveMesh } from "./live_mesh.ts";
import { MeshEdges } from "./mesh_edges.ts";
import { fetchText, Scraper } from "./scraper.ts";

let bus: MeshBus;
let mesh: LiveMesh;
let scraper: Scraper;
let stop: AbortController;
let nowMs: number;

beforeEach(() => {
  nowMs = 1_700_000_000_500;
  bus = createLocalBus();
  stop = new AbortController();
  scraper = new Scraper({
    everyMs: 20,
    fetchText,
    nowMs: () => performance.now(),
  });
  mesh = new LiveMesh({
    nowMs: () => nowMs,
    edges: new MeshEdges(),
    scraper,
    decisions: () => [],
  });
  mesh.follow(bus, stop.signal).catch(() => {
    // Ended by the test.
  });
});
afterEach(async () => {
  stop.abort();
  scraper[Symbol.dispose]();
  await bus[Symbol.asyncDispose]();
});

const worker = (fields: Partial<WorkerRecord> = {}) =>
  workerRecord("d-1", {
    address: "127.0.0.1:1",
    startedAtMs: 1,
    models: [workerModel("m", {
      contextLength: 64,
      blocksTotal: 10,
      blocksFree: 4,
      running: 2,
      waiting: 1,
      weightBytes: 0,
      prefillTokensPerS: 3,
      decodeTokensPerS: 5,
    })],
    ...fields,
  });

const report = (fields: object = {}) => ({
  routerId: "r-1",
  model: "m",
  atMs: nowMs,
  windowMs: 1_000,
  arrivals: 4,
  completions: 3,
  failures: 1,
  held: 0,
  running: 2,
  promptTokens: 40,
  generatedTokens: 90,
  ...fields,
});

const model = (name = "m") =>
  mesh.models().models.find((state) => state.model === name);

test("a model goes from absent over waking to running and asleep, with its cold start", async () => {
  bus.publishTraffic(report({ held: 3, running: 0 }));
  await waitFor(() => model()?.state === "waking");
  bus.publishWake({ routerId: "r-1", model: "m", atMs: nowMs, held: 3 });
  await waitFor(() => model()?.coldStarts.length === 1);
  bus.publishWake({ routerId: "r-1", model: "m", atMs: nowMs, held: 7 });
  await waitFor(() => model()?.coldStarts[0].heldMax === 7);
  nowMs += 2_000;
  await bus.putWorker(worker());
  await waitFor(() => model()?.state === "running");
  deepEqual(model()?.coldStarts, [{
    wokenAtMs: nowMs - 2_000,
    readyAtMs: nowMs,
    heldMax: 7,
  }]);
  deepEqual([model()?.decodeReplicas, model()?.blocksFree], [1, 4]);
  await bus.removeWorker("decode", "d-1");
  nowMs += 6_000;
  await waitFor(() => model()?.state === "asleep");
  equal(mesh.state().log.filter(({ kind }) => kind === "wake").length, 1);
});

test("traffic of two routers adds up per second, and silence is no traffic", async () => {
  bus.publishTraffic(report());
  bus.publishTraffic(report({ routerId: "r-2", arrivals: 6 }));
  await waitFor(() => mesh.state().routers.length === 2);
  const point = model()!.traffic.at(-1)!;
  deepEqual([point.arrivals, point.running, point.outputTokens], [10, 4, 180]);
  equal(mesh.state().routers[0].requestsPerS, 4);
  nowMs += 1_000;
  equal(model()!.requestsPerS, 1, "ten in the last ten seconds");
  equal(model()!.traffic.length, 120);
  nowMs += 6_000;
  equal(mesh.state().routers[0].requestsPerS, 0);
  equal(model()!.running, 0);
});

test("a worker that left is shown as gone for a minute; one that restarts has joined again", async () => {
  await bus.putWorker(worker());
  await waitFor(() => mesh.state().workers[0]?.state === "ready");
  await bus.putWorker(worker({ draining: true }));
  await waitFor(() => mesh.state().workers[0].state === "draining");
  await bus.removeWorker("decode", "d-1");
  await waitFor(() => mesh.state().workers[0].state === "gone");
  await bus.putWorker(worker({ startedAtMs: 2 }));
  await waitFor(() => mesh.state().workers[0].state === "ready");
  await bus.removeWorker("decode", "d-1");
  await waitFor(() => mesh.state().workers[0].state === "gone");
  nowMs += 61_000;
  deepEqual(mesh.state().workers, []);
  deepEqual(
    mesh.state().log.map(({ kind }) => kind).filter((k) => k !== "nats_back"),
    [
      "worker_joined",
      "model_loaded",
      "worker_draining",
      "worker_left",
      "worker_joined",
      "model_loaded",
      "worker_left",
    ],
  );
});

test("cached blocks follow the events, over a gap by a dump", async () => {
  const hashes = ["a", "b", "c"];
  using _dump = bus.serveKvDump("d-1", () => ({
    workerId: "d-1",
    models: [{ model: "m", number: 5, hashes }],
  }));
  await bus.putWorker(worker());
  const cached = () => mesh.state().workers[0]?.models[0].blocksCached;
  await waitFor(() => cached() === 3);
  const kv = { workerId: "d-1", model: "m", removed: [] as string[] };
  bus.publishKv({ ...kv, number: 6, stored: ["d", "e"] });
  await waitFor(() => cached() === 5);
  bus.publishKv({ ...kv, number: 7, stored: [], removed: ["a"] });
  await waitFor(() => cached() === 4);
  bus.publishKv({ ...kv, number: 9, stored: ["x"] });
  await waitFor(() => cached() === 3);
});

test("a worker's own metrics become rates; one that stops answering is stale", async () => {
  let steps = 0;
  const server = createServer((_, response) => {
    steps += 10;
    response.end(`# HELP x
quetzal:step_time_seconds_sum{model_name="m"} ${steps * 0.002}
quetzal:step_time_seconds_count{model_name="m"} ${steps}
quetzal:generation_tokens_total{model_name="m"} ${steps * 3}
quetzal:prefix_cache_hits_total{model_name="m"} 30
quetzal:prefix_cache_queries_total{model_name="m"} 40
garbage here
nan_metric NaN
`);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await bus.putWorker(worker({ metricsAddress: `127.0.0.1:${port}` }));
  const metrics = () => mesh.state().workers[0]?.metrics;
  const found = await waitFor(() => metrics()?.stepMsMean ? metrics() : null);
  ok(Math.abs(found.stepMsMean! - 2) < 1e-6, `${found.stepMsMean}`);
  ok(Math.abs(found.batchSizeMean! - 3) < 1e-6);
  deepEqual([found.prefixHitShare, found.preemptionsTotal], [0.75, null]);
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
  await waitFor(() => metrics()?.stale);
});
