import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { StorageType } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect, headers } from "@nats-io/transport-node";
import { test } from "vitest";
import { freePort, startNats, waitFor } from "../testing/mod.ts";
import { aborter, follow, kvEvent, report, wake } from "./bus_contract.ts";
import { connectBus, type ConnectBusOptions } from "./nats_bus.ts";
import { workerRecord } from "./testing/worker_records.ts";
import type { BusWarning } from "./warnings.ts";

/** A bus of this test; its warnings are kept. */
async function open(url: string, rest: Partial<ConnectBusOptions> = {}) {
  const warnings: BusWarning[] = [];
  const bus = await connectBus({
    url,
    name: "test",
    workerTtlMs: 2_000,
    graceMs: 1_000,
    onWarning: (warning) => warnings.push(warning),
    ...rest,
  });
  return Object.assign(bus, { warnings });
}

/** Keeps the newest message of a stream. */
function newest<T>(stream: AsyncIterable<T>) {
  const state: { last: T | undefined; count: number } = {
    last: undefined,
    count: 0,
  };
  void (async () => {
    for await (const item of stream) {
      state.last = item;
      state.count++;
    }
  })();
  return state;
}

async function createBucketOnDisk(url: string): Promise<void> {
  const nc = await connect({ servers: url });
  await new Kvm(nc).create("workers", { storage: StorageType.File });
  await nc.close();
}

for (const loseData of [false, true]) {
  const how = loseData ? "without its data" : "with its data";
  test(`a NATS that restarts ${how} is survived by everything`, async () => {
    await using nats = await startNats();
    // Ours is in memory; one that an operator made may be on disk and is taken as it is.
    if (!loseData) await createBucketOnDisk(nats.url);
    await using worker = await open(nats.url);
    await using router = await open(nats.url);
    using abort = aborter();
    const seen = follow(router.watchWorkers(abort.signal));
    const kv = newest(router.subscribeKv(abort.signal));
    const wakes = newest(worker.subscribeWake(abort.signal));
    using _dump = worker.serveKvDump(
      "w-1",
      () => ({ workerId: "w-1", models: [] }),
    );
    await worker.putWorker(workerRecord("w-1"));
    await waitFor(() => seen.ids.length === 1);

    await nats.kill();
    await waitFor(() => !router.connected && !worker.connected);
    // Nothing here may throw or wait for NATS.
    worker.publishKv(kvEvent(1));
    router.publishTraffic(report);
    await worker.putWorker(workerRecord("w-1", { draining: true }));
    await worker.putWorker(workerRecord("w-2"));
    equal(await router.requestKvDump("w-1", abort.signal), undefined);
    const lateKv = newest(router.subscribeKv(abort.signal));
    const lateSeen = follow(router.watchWorkers(abort.signal));
    // Longer than the TTL: silence of NATS is not death of workers.
    await delay(2_500);
    deepEqual(seen.log, ["put decode/w-1"]);

    await nats.restart({ loseData });
    await waitFor(() => router.connected && worker.connected);
    await waitFor(() => seen.ids.length === 2, { what: "both workers" });
    await waitFor(() => seen.record("decode/w-1")?.draining);
    worker.publishKv(kvEvent(2));
    await waitFor(() => kv.last?.number === 2);
    equal(kv.count, 1);
    await waitFor(() => lateKv.count === 1 && lateSeen.ids.length === 2);
    router.publishWake(wake);
    await waitFor(() => wakes.last);
    ok(await router.requestKvDump("w-1", abort.signal));
    ok(!seen.log.some((line) => line.startsWith("gone")), `${seen.log}`);

    // Nobody renews any more: the TTL holds as before.
    await waitFor(() => seen.ids.length === 0, { what: "expiry" });
    equal(worker.warningCounts.dropped, 1);
    deepEqual(
      router.warnings.filter(({ kind }) => kind === "connection").map((w) =>
        w.message.replace(/ at .*/, "")
      ),
      ["Lost NATS", "NATS is back"],
    );
  });
}

for (const loseData of [false, true]) {
  const how = loseData ? "goes after a while" : "stays";
  test(`a model ${how} when NATS restarts ${loseData ? "without its" : "with its"} data`, async () => {
    await using nats = await startNats();
    await using writer = await open(nats.url);
    await using reader = await open(nats.url, { workerTtlMs: 700 });
    using abort = aborter();
    const models = new Set<string>();
    void (async () => {
      for await (const change of reader.watchModels(abort.signal)) {
        if (change.kind === "put") models.add(change.entry.model);
        else models.delete(change.model);
      }
    })();
    const entry = (model: string) => ({ model, source: { path: "/m" } });
    await writer.putModel(entry("lost"));
    await writer.putModel(entry("rewritten"));
    await waitFor(() => models.size === 2);
    await nats.kill();
    await waitFor(() => !writer.connected && !reader.connected);
    await rejects(writer.putModel(entry("late")), {
      name: "MeshError",
      message: /^Cannot write model "late": .* NATS is away/,
    });
    await nats.restart({ loseData });
    await waitFor(() => writer.connected && reader.connected);
    await waitFor(() =>
      writer.putModel(entry("rewritten")).then(() => true, () => false)
    );
    if (loseData) await waitFor(() => !models.has("lost"));
    else await delay(1_000);
    deepEqual([...models], loseData ? ["rewritten"] : ["lost", "rewritten"]);
  });
}

test("a worker that died during an outage is gone soon after it", async () => {
  await using nats = await startNats();
  await using router = await open(nats.url, { workerTtlMs: 10_000 });
  using abort = aborter();
  const seen = follow(router.watchWorkers(abort.signal));
  {
    await using worker = await open(nats.url, { workerTtlMs: 10_000 });
    await worker.putWorker(workerRecord("w-1"));
    await waitFor(() => seen.ids.length === 1);
  }
  await nats.restart();
  await waitFor(() => router.connected);
  const startMs = performance.now();
  await waitFor(() => seen.ids.length === 0);
  ok(performance.now() - startMs < 5_000, "the grace counts, not the TTL");
});

test("records that outlived their time in someone's bucket are not believed", async () => {
  await using nats = await startNats();
  await createBucketOnDisk(nats.url);
  await using worker = await open(nats.url);
  await worker.putWorker(workerRecord("old"));
  await delay(2_200);
  await worker.putWorker(workerRecord("new"));
  using abort = aborter();
  const seen = follow(worker.watchWorkers(abort.signal));
  await waitFor(() => seen.ids.length > 0);
  deepEqual(seen.log, ["put decode/new"]);
});

test("a bucket that is deleted comes back with the next renewal", async () => {
  await using nats = await startNats();
  await using worker = await open(nats.url);
  await worker.putWorker(workerRecord("w-1"));
  const nc = await connect({ servers: nats.url });
  await nc.request("$JS.API.STREAM.DELETE.KV_workers");
  await nc.close();
  await worker.putWorker(workerRecord("w-1"));
  await using router = await open(nats.url);
  using abort = aborter();
  const seen = follow(router.watchWorkers(abort.signal));
  await waitFor(() => seen.ids.length === 1);
  equal(worker.warningCounts.registration, 0);
});

test("connectBus() waits for a NATS that starts later", async () => {
  await using nats = await startNats();
  await nats.kill();
  const opening = open(nats.url);
  await delay(300);
  await nats.restart();
  await using bus = await opening;
  equal(bus.connected, true);
});

test("connectBus() gives up when its signal aborts", async () => {
  const port = await freePort();
  await rejects(
    open(`nats://127.0.0.1:${port}`, { signal: AbortSignal.timeout(250) }),
    {
      name: "MeshError",
      message:
        `Cannot connect to NATS at nats://127.0.0.1:${port}: gave up waiting`,
    },
  );
});

test("connectBus() logs in, and says that a login is refused", async () => {
  await using nats = await startNats({
    args: ["--user", "u", "--pass", "p@ss"],
  });
  const at = (login: string) => `nats://${login}@127.0.0.1:${nats.port}`;
  await rejects(open(at("u:wrong")), {
    message:
      `Cannot connect to NATS at nats://***@127.0.0.1:${nats.port}: it refuses the login`,
  });
  await using bus = await open(at("u:p%40ss"));
  equal(bus.connected, true);
});

test("connectBus() refuses an address that is none", async () => {
  for (const url of ["localhost:4222", "http://x:1", "nats://"]) {
    await rejects(
      open(url),
      { message: /^Cannot connect to NATS: needs/ },
      url,
    );
  }
});

test("connectBus() keeps waiting, and says so, while JetStream is off", async () => {
  await using nats = await startNats({ jetStream: false });
  const warnings: string[] = [];
  await rejects(open(nats.url, {
    signal: AbortSignal.timeout(700),
    onWarning: ({ cause }) => warnings.push(String(cause)),
  }));
  ok(warnings.some((text) => /jetstream/i.test(text)), `${warnings}`);
});

test("foreign messages are counted and left out", async () => {
  await using nats = await startNats();
  await using bus = await open(nats.url);
  const nc = await connect({ servers: nats.url });
  using abort = aborter();
  const kv = newest(bus.subscribeKv(abort.signal));
  const wakes = newest(bus.subscribeWake(abort.signal));
  const seen = follow(bus.watchWorkers(abort.signal));
  await waitFor(() =>
    bus.requestKvDump("nobody", abort.signal).then(() => true)
  );

  const said: [string, string | Uint8Array][] = [
    ["mesh.kv.m.w", "not json"],
    ["mesh.kv.m.w", new Uint8Array([0xff, 0xfe])],
    ["mesh.kv.m.w", "{}"],
    ["mesh.kv.m.w", JSON.stringify(kvEvent(1, { model: "other" }))],
    [
      "mesh.kv.qwen2=2E5-0=2E5b.w-1",
      JSON.stringify({ ...kvEvent(7), extra: 1 }),
    ],
    ["mesh.wake.m", JSON.stringify({ ...wake, held: "two" })],
    ["$KV.workers.decode.w-1", "nonsense"],
    ["$KV.workers.decode.w-2", JSON.stringify(workerRecord("w-3"))],
    ["$KV.workers.other.w-3", JSON.stringify(workerRecord("w-3"))],
    ["$KV.workers.decode.w-4", JSON.stringify(workerRecord("w-4"))],
  ];
  for (const [subject, payload] of said) nc.publish(subject, payload);
  await waitFor(() => seen.ids.length > 0);
  deepEqual(seen.ids, ["decode/w-4"]);
  deepEqual(kv.last, kvEvent(7));
  equal(kv.count, 1);
  equal(wakes.count, 0);
  equal(bus.warningCounts.malformed, 8);
  await nc.close();
});

test("a broken KV dump is left out", async () => {
  await using nats = await startNats();
  await using bus = await open(nats.url, { dumpTimeoutMs: 300 });
  const nc = await connect({ servers: nats.url });
  using abort = aborter();
  const good = JSON.stringify({ workerId: "w", models: [] });
  const answers: Record<string, [part: string, payload: string][]> = {
    "no-parts": [["", good]],
    "other-worker": [["a 0 1", good]],
    "out-of-order": [["a 1 2", good]],
    "too-many": [["a 0 9999", good]],
    "never-ends": [["a 0 2", good]],
    "not-json": [["a 0 1", "{"]],
    w: [["a 0 2", good.slice(0, 9)], ["b 0 1", "{}"], ["a 1 2", good.slice(9)]],
  };
  for (const [workerId, parts] of Object.entries(answers)) {
    nc.subscribe(`mesh.kvdump.${workerId}`, {
      callback(_error, request) {
        for (const [part, payload] of parts) {
          const bag = headers();
          bag.set("Quetzal-Part", part);
          request.respond(payload, { headers: bag });
        }
      },
    });
  }
  await nc.flush();
  for (const workerId of Object.keys(answers)) {
    const dump = await bus.requestKvDump(workerId, abort.signal);
    equal(dump?.workerId, workerId === "w" ? "w" : undefined, workerId);
  }
  equal(bus.warningCounts.malformed, 5);
  await nc.close();
});

test("a message larger than NATS takes is dropped and counted", async () => {
  await using nats = await startNats();
  await using bus = await open(nats.url);
  const stored = Array.from(
    { length: 60_000 },
    (_, i) => `${i}`.padStart(32, "0"),
  );
  bus.publishKv(kvEvent(1, { stored }));
  equal(bus.warningCounts.dropped, 1);
  equal(bus.connected, true);
});

test("a disposed bus is quiet", async () => {
  await using nats = await startNats();
  const bus = await open(nats.url);
  using abort = aborter();
  await bus[Symbol.asyncDispose]();
  bus.publishKv(kvEvent(1));
  await bus.putWorker(workerRecord("w-1"));
  await bus.removeWorker("decode", "w-1");
  equal(await bus.requestKvDump("w-1", abort.signal), undefined);
  for await (const _ of bus.watchWorkers(abort.signal)) {
    throw new Error("heard");
  }
  for await (const _ of bus.subscribeKv(abort.signal)) throw new Error("heard");
  bus.serveKvDump("w-1", () => ({ workerId: "w-1", models: [] }))
    [Symbol.dispose]();
  await bus[Symbol.asyncDispose]();
});
