import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { context, propagation, trace } from "@opentelemetry/api";
import { test } from "vitest";
import { waitFor } from "../testing/mod.ts";
import { workerRecord } from "./testing/worker_records.ts";
import { traceContextOf } from "./trace_context.ts";
import type { MeshBus } from "./options.ts";
import type {
  KvEvent,
  TrafficReport,
  WakeMessage,
  WorkerChange,
  WorkerRecord,
} from "./types.ts";

/** Two ends of one mesh: what `a` says, `b` hears. */
export interface BusPair extends AsyncDisposable {
  readonly a: MeshBus;
  readonly b: MeshBus;
  readonly ttlMs: number;
  /** Returns when everything said before has been heard on the other end. */
  settle(): Promise<void>;
  /** Lets time go by, by clock or by waiting. */
  pass(ms: number): Promise<void>;
}

export function kvEvent(number: number, rest: Partial<KvEvent> = {}): KvEvent {
  return {
    workerId: "w-1",
    model: "qwen2.5-0.5b",
    number,
    stored: ["aa"],
    removed: [],
    ...rest,
  };
}

export const report: TrafficReport = {
  routerId: "r-1",
  model: "org/model v1.0",
  atMs: 5,
  windowMs: 1_000,
  arrivals: 3,
  completions: 2,
  failures: 0,
  held: 1,
  running: 1,
  promptTokens: 100,
  generatedTokens: 50,
};

export const wake: WakeMessage = {
  routerId: "r-1",
  model: "a.b*>c",
  atMs: 7,
  held: 2,
};

const spanContext = {
  traceId: "0af7651916cd43dd8448eb211c80319c",
  spanId: "b7ad6b7169203331",
  traceFlags: 1,
};

/** Reads `count` items; a stream that ends earlier gives fewer. */
export async function take<T>(
  stream: AsyncIterable<T>,
  count: number,
): Promise<T[]> {
  const iterator = stream[Symbol.asyncIterator]();
  const items: T[] = [];
  while (items.length < count) {
    const result = await iterator.next();
    if (result.done) break;
    items.push(result.value);
  }
  return items;
}

/** Applies changes for ever; `ids` are the workers present now. */
export function follow(stream: AsyncIterable<WorkerChange>) {
  const present = new Map<string, WorkerRecord>();
  const log: string[] = [];
  const done = (async () => {
    for await (const change of stream) {
      const { role, workerId } = change.kind === "put" ? change.record : change;
      const key = `${role}/${workerId}`;
      log.push(`${change.kind} ${key}`);
      if (change.kind === "put") present.set(key, change.record);
      else present.delete(key);
    }
  })();
  return {
    done,
    log,
    record: (key: string) => present.get(key),
    get ids() {
      return [...present.keys()].sort();
    },
  };
}

/** What every `Bus` does; `open` gives a fresh mesh. */
export function testBusContract(
  name: string,
  open: () => Promise<BusPair>,
): void {
  const busTest = (title: string, body: (pair: BusPair) => Promise<void>) =>
    test(`${name}: ${title}`, async () => {
      await using pair = await open();
      await body(pair);
    });

  busTest(
    "watchWorkers() starts with those present",
    async ({ a, b, settle }) => {
      await a.putWorker(workerRecord("w-1"));
      await a.putWorker(workerRecord("w.2", { role: "prefill" }));
      await settle();
      using abort = aborter();
      const changes = await take(b.watchWorkers(abort.signal), 2);
      deepEqual(
        changes.map((c) =>
          c.kind === "put" && `${c.record.role} ${c.record.workerId}`
        )
          .sort(),
        ["decode w-1", "prefill w.2"],
      );
    },
  );

  busTest("watchWorkers() tells renewals and removals", async (pair) => {
    using abort = aborter();
    const seen = follow(pair.b.watchWorkers(abort.signal));
    await pair.a.putWorker(workerRecord("w-1"));
    await waitFor(() => seen.ids.length === 1);
    await pair.a.putWorker(workerRecord("w-1", { draining: true }));
    await waitFor(() => seen.record("decode/w-1")?.draining);
    await pair.a.removeWorker("decode", "w-1");
    await waitFor(() => seen.ids.length === 0);
    equal(seen.log.at(-1), "gone decode/w-1");
  });

  busTest("a worker that is not renewed is gone", async (pair) => {
    using abort = aborter();
    const seen = follow(pair.b.watchWorkers(abort.signal));
    await pair.a.putWorker(workerRecord("silent"));
    for (let i = 0; i < 5; i++) {
      await pair.a.putWorker(workerRecord("alive"));
      await pair.pass(pair.ttlMs * 0.3);
    }
    await pair.settle();
    deepEqual(seen.ids, ["decode/alive"]);
    ok(seen.log.includes("gone decode/silent"));
  });

  busTest(
    "a watch that starts later does not see the expired",
    async (pair) => {
      await pair.a.putWorker(workerRecord("silent"));
      await pair.pass(pair.ttlMs * 1.5);
      await pair.a.putWorker(workerRecord("alive"));
      await pair.settle();
      using abort = aborter();
      const seen = follow(pair.b.watchWorkers(abort.signal));
      await waitFor(() => seen.ids.length > 0);
      deepEqual(seen.log, ["put decode/alive"]);
    },
  );

  busTest("putWorker() refuses a record that is none", async ({ a }) => {
    await rejects(a.putWorker({ ...workerRecord("w"), startedAtMs: NaN }), {
      name: "MeshError",
      message: /^Cannot publish a worker: startedAtMs: /,
    });
  });

  busTest("models are known to who watches, before and after", async (pair) => {
    const model = "org/Größe v1.0";
    const entry = { model, source: { path: "/m.gguf" }, aliases: ["m"] };
    await pair.a.putModel(entry);
    using abort = aborter();
    const changes = pair.b.watchModels(abort.signal)[Symbol.asyncIterator]();
    const next = async () => (await changes.next()).value;
    deepEqual(await next(), { kind: "put", entry });
    await pair.settle();

    const moved = { ...entry, source: { path: "/n.gguf" }, ttftTargetMs: 500 };
    await pair.a.putModel(moved);
    deepEqual(await next(), { kind: "put", entry: moved });
    // The same again is no change: the next thing heard is the removal.
    await pair.a.putModel(moved);
    await pair.a.removeModel(model);
    await pair.a.removeModel("never was");
    deepEqual(await next(), { kind: "gone", model });
    using late = aborter();
    const others = pair.b.watchModels(late.signal)[Symbol.asyncIterator]();
    await pair.a.putModel({ model: "z", source: { path: "/z" } });
    equal((await others.next()).value.entry.model, "z");
  });

  busTest("putModel() refuses an entry that is none", async ({ a }) => {
    const url = "https://host/m.gguf";
    for (
      const [source, message] of [
        [{}, /source: must have either/],
        [{ path: "/a", url, sha256: "0".repeat(64) }, /source: must have eit/],
        [{ url }, /source: must have a sha256/],
        [{ url, sha256: "12" }, /source.sha256: must be 64 hex digits/],
      ] as const
    ) {
      await rejects(a.putModel({ model: "m", source }), {
        name: "MeshError",
        message,
      });
    }
  });

  busTest("every kind of message arrives as it was sent", async (pair) => {
    using abort = aborter();
    const kv = pair.b.subscribeKv(abort.signal);
    const traffic = pair.b.subscribeTraffic(abort.signal);
    const wakes = pair.b.subscribeWake(abort.signal);
    await pair.settle();
    pair.a.publishKv(kvEvent(1, { model: "größe.gguf" }));
    pair.a.publishKv(kvEvent(2));
    pair.a.publishTraffic(report);
    pair.a.publishWake(wake);
    deepEqual(await take(kv, 2), [
      kvEvent(1, { model: "größe.gguf" }),
      kvEvent(2),
    ]);
    deepEqual(await take(traffic, 1), [report]);
    deepEqual(await take(wakes, 1), [wake]);
  });

  busTest("a slow reader loses the oldest messages, counted", async (pair) => {
    using abort = aborter();
    const kv = pair.b.subscribeKv(abort.signal);
    await pair.settle();
    for (let number = 1; number <= 20; number++) {
      pair.a.publishKv(kvEvent(number));
    }
    await pair.settle();
    const numbers = (await take(kv, 16)).map((event) => event.number);
    deepEqual(numbers, Array.from({ length: 16 }, (_, i) => i + 5));
    equal(pair.b.warningCounts.dropped, 4);
  });

  busTest("malformed messages are counted and left out", async (pair) => {
    using abort = aborter();
    const kv = pair.b.subscribeKv(abort.signal);
    await pair.settle();
    pair.a.publishKv(kvEvent(-1));
    pair.a.publishKv(kvEvent(2));
    deepEqual(await take(kv, 1), [kvEvent(2)]);
    equal(pair.b.warningCounts.malformed, 1);
  });

  busTest("a stream ends when its signal aborts", async ({ b }) => {
    const abort = new AbortController();
    const ends = [
      take(b.watchWorkers(abort.signal), 1),
      take(b.subscribeKv(abort.signal), 1),
    ];
    abort.abort();
    deepEqual(await Promise.all(ends), [[], []]);
    deepEqual(await take(b.subscribeWake(abort.signal), 1), []);
  });

  busTest("streams end when the bus is disposed", async ({ b }) => {
    using abort = aborter();
    const end = take(b.subscribeTraffic(abort.signal), 1);
    await b[Symbol.asyncDispose]();
    deepEqual(await end, []);
    equal(b.connected, false);
  });

  busTest("requestKvDump() brings a dump of 100,000 blocks", async (pair) => {
    const hashes = Array.from(
      { length: 100_000 },
      (_, i) => i.toString(16).padStart(32, "0"),
    );
    const dump = {
      workerId: "w-1",
      models: [{ model: "m", number: 9, hashes }],
    };
    using abort = aborter();
    using _served = pair.a.serveKvDump("w-1", () => dump);
    await pair.settle();
    deepEqual(await pair.b.requestKvDump("w-1", abort.signal), dump);
  });

  busTest(
    "requestKvDump() is undefined when nobody serves it",
    async (pair) => {
      using abort = aborter();
      equal(await pair.b.requestKvDump("w-9", abort.signal), undefined);
      pair.a.serveKvDump("w-9", () => ({ workerId: "w-9", models: [] }))
        [Symbol.dispose]();
      await pair.settle();
      equal(await pair.b.requestKvDump("w-9", abort.signal), undefined);
    },
  );

  busTest("a message carries the trace it was sent in", async (pair) => {
    using abort = aborter();
    const wakes = pair.b.subscribeWake(abort.signal);
    await pair.settle();
    const active = trace.setSpanContext(context.active(), spanContext);
    context.with(active, () => pair.a.publishWake(wake));
    pair.a.publishWake({ ...wake, held: 3 });
    const [traced, plain] = await take(wakes, 2);
    const received = trace.getSpanContext(traceContextOf(traced));
    equal(received?.traceId, spanContext.traceId);
    equal(received?.spanId, spanContext.spanId);
    equal(trace.getSpanContext(traceContextOf(plain)), undefined);
    ok(propagation.fields().includes("traceparent"));
  });

  busTest("a dump is made in the trace it was asked for in", async (pair) => {
    using abort = aborter();
    let asked: string | undefined;
    using _served = pair.a.serveKvDump("w-1", () => {
      asked = trace.getSpanContext(context.active())?.traceId;
      return { workerId: "w-1", models: [] };
    });
    await pair.settle();
    const active = trace.setSpanContext(context.active(), spanContext);
    await context.with(active, () => pair.b.requestKvDump("w-1", abort.signal));
    equal(asked, spanContext.traceId);
  });
}

export function aborter(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => controller.abort(),
  };
}
