import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { test } from "vitest";
import { Code } from "../../../lib/errors/mesh_error.ts";
import { createFakeClock } from "../../../lib/testing/mod.ts";
import { type RecordFields, workerRecord } from "../testing/records.ts";
import { KvIndex } from "../workers/kv_index.ts";
import { WorkerTable } from "../workers/worker_table.ts";
import {
  Dispatcher,
  type DispatcherOptions,
  type Lease,
} from "./dispatcher.ts";
import type { RouteRequest } from "./route.ts";

function setUp(settings: Partial<DispatcherOptions> = {}) {
  const clock = createFakeClock();
  const workers = new WorkerTable(clock);
  const kvIndex = new KvIndex({
    requestDump: () => Promise.resolve(undefined),
    hashesMax: 1_000,
  });
  const wakes: number[] = [];
  const dispatcher = new Dispatcher({
    workers,
    kvIndex,
    clock,
    policy: "least-load",
    sequencesMax: 2,
    prefillTokensMin: 64,
    prefillIdleTokensMin: 0,
    random: () => 0,
    heldMax: 3,
    holdMs: 30_000,
    onWake: (_model, held) => wakes.push(held),
    ...settings,
  });
  const put = (workerId: string, fields?: RecordFields) =>
    workers.apply({ kind: "put", record: workerRecord(workerId, fields) });
  return { clock, workers, kvIndex, dispatcher, wakes, put };
}

function request(length = 20, contextNeeded = length): RouteRequest {
  return {
    model: "demo",
    tokenIds: new Int32Array(length),
    contextNeeded,
    hashes: new Map(),
  };
}

const forever = new AbortController().signal;

test("acquire() answers at once while a worker has a place, on the idlest first", async () => {
  const { dispatcher, put } = setUp();
  put("a");
  put("b");
  const leases = [];
  for (let i = 0; i < 4; i++) {
    leases.push(await dispatcher.acquire(request(), forever));
  }
  deepEqual(leases.map(({ worker }) => worker.record.workerId).sort(), [
    "a",
    "a",
    "b",
    "b",
  ]);
  equal(dispatcher.heldCount("demo"), 0);
});

test("requests beyond the cap wait and go first come, first served", async () => {
  const { dispatcher, put, clock } = setUp({ sequencesMax: 1 });
  put("a");
  const first = await dispatcher.acquire(request(), forever);
  const order: number[] = [];
  const waiting = [1, 2].map((n) =>
    Promise.resolve(dispatcher.acquire(request(), forever)).then((lease) => {
      order.push(n);
      return lease;
    })
  );
  equal(dispatcher.heldCount("demo"), 2);
  clock.advance(700);
  first[Symbol.dispose]();
  const second = await waiting[0];
  equal(second.heldMs, 700);
  second[Symbol.dispose]();
  await waiting[1];
  deepEqual(order, [1, 2]);
});

test("without a worker requests are held, a wake goes out at once and each second", async () => {
  const { dispatcher, put, clock, wakes } = setUp();
  const held = [0, 1].map(() => dispatcher.acquire(request(), forever));
  clock.advance(2_500);
  deepEqual(wakes, [1, 2, 2]);
  put("a");
  const leases = await Promise.all(held);
  deepEqual(leases.map(({ worker }) => worker.record.workerId), ["a", "a"]);
  clock.advance(10_000);
  deepEqual(wakes, [1, 2, 2]);
});

test("busy workers are no reason for a wake", () => {
  const { dispatcher, put, clock, wakes } = setUp({ sequencesMax: 1 });
  put("a");
  dispatcher.acquire(request(), forever);
  void dispatcher.acquire(request(), forever);
  clock.advance(5_000);
  deepEqual(wakes, []);
});

test("a full queue refuses, and says when to come back", () => {
  const { dispatcher } = setUp();
  for (let i = 0; i < 3; i++) void dispatcher.acquire(request(), forever);
  throws(() => dispatcher.acquire(request(), forever), {
    code: Code.resourceExhausted,
    reason: "queue_full",
    retryAfterMs: 1_000,
  });
});

const deadlines = [
  {
    label: "without a worker: unavailable",
    worker: false,
    code: Code.unavailable,
  },
  {
    label: "behind busy workers: exhausted",
    worker: true,
    code: Code.resourceExhausted,
  },
];

for (const { label, worker, code } of deadlines) {
  test(`at the end of the hold, ${label}`, async () => {
    const { dispatcher, put, clock } = setUp({ sequencesMax: 1 });
    if (worker) {
      put("a");
      dispatcher.acquire(request(), forever);
    }
    const held = Promise.resolve(dispatcher.acquire(request(), forever));
    clock.advance(29_999);
    equal(dispatcher.heldCount("demo"), 1);
    clock.advance(1);
    await rejects(held, { code });
    equal(dispatcher.heldCount("demo"), 0);
  });
}

test("an aborted request leaves the queue", async () => {
  const { dispatcher } = setUp();
  const controller = new AbortController();
  const held = Promise.resolve(
    dispatcher.acquire(request(), controller.signal),
  );
  controller.abort(new Error("gone"));
  await rejects(held, { message: "gone" });
  equal(dispatcher.heldCount("demo"), 0);
});

test("a distrusted worker gets nothing until its time is over, then held requests go there", async () => {
  const { dispatcher, workers, put, clock } = setUp();
  put("a");
  const { worker } = await dispatcher.acquire(request(), forever);
  workers.distrust(worker);
  const held = dispatcher.acquire(request(), forever);
  clock.advance(499);
  equal(dispatcher.heldCount("demo"), 1);
  clock.advance(1);
  equal((await held).worker, worker);
});

test("distrust doubles up to 4 s, and a restart of the worker ends it", async () => {
  const { dispatcher, workers, put, clock } = setUp();
  put("a");
  for (const delayMs of [500, 1_000, 2_000, 4_000, 4_000]) {
    using lease: Lease = await dispatcher.acquire(request(), forever);
    workers.distrust(lease.worker);
    clock.advance(delayMs - 1);
    equal(lease.worker.trusted, false, `${delayMs}`);
    clock.advance(1);
    equal(lease.worker.trusted, true, `${delayMs}`);
  }
  const { worker } = await dispatcher.acquire(request(), forever);
  workers.distrust(worker);
  put("a", { startedAtMs: 2 });
  equal(
    (await dispatcher.acquire(request(), forever)).worker.record.startedAtMs,
    2,
  );
});

test("a request that needs a longer context lets those behind it pass", async () => {
  const { dispatcher, put, workers } = setUp({ sequencesMax: 1 });
  put("short", { model: { contextLength: 100 } });
  put("long", { model: { contextLength: 900 } });
  const long = await dispatcher.acquire(request(20, 500), forever);
  equal(long.worker.record.workerId, "long");
  const short = await dispatcher.acquire(request(), forever);
  const order: string[] = [];
  const note = (name: string, contextNeeded: number) =>
    Promise.resolve(dispatcher.acquire(request(20, contextNeeded), forever))
      .then(({ worker }) => {
        order.push(`${name} on ${worker.record.workerId}`);
      });
  const both = [note("long", 500), note("short", 50)];
  short[Symbol.dispose]();
  await both[1];
  long[Symbol.dispose]();
  await both[0];
  deepEqual(order, ["short on short", "long on long"]);
  equal(workers.serving("decode", "demo").length, 2);
});

test("a request longer than every worker's context is refused", () => {
  const { dispatcher, put } = setUp();
  put("a", { model: { contextLength: 100 } });
  throws(() => dispatcher.acquire(request(20, 200), forever), {
    code: Code.invalidArgument,
    message: /needs a context of 200 tokens, the workers of "demo" have 100/,
  });
});

test("draining workers and those of other models get nothing", () => {
  const { dispatcher, put } = setUp();
  put("a", { draining: true });
  put("b", { model: { model: "other" } });
  void dispatcher.acquire(request(), forever);
  equal(dispatcher.heldCount("demo"), 1);
});

test("a prefill worker is named for long uncached prompts, and free when the prompt is done", async () => {
  const { dispatcher, put, workers } = setUp();
  put("d");
  put("p", { role: "prefill" });
  const short = await dispatcher.acquire(request(63), forever);
  deepEqual([short.prefill, short.decision.prefillReason], [
    undefined,
    "short prompt",
  ]);
  const long = await dispatcher.acquire(request(64), forever);
  equal(long.prefill?.record.workerId, "p");
  equal(workers.get("prefill", "p")?.inFlight, 1);
  long.prefillDone();
  equal(workers.get("prefill", "p")?.inFlight, 0);
  long[Symbol.dispose]();
  equal(workers.get("prefill", "p")?.inFlight, 0);
  equal(workers.get("decode", "d")?.inFlight, 1);
});

test("a cached prefix on the decode worker makes the prefill worker unnecessary", async () => {
  const { dispatcher, put, kvIndex } = setUp({ policy: "prefix-affinity" });
  put("d");
  put("e");
  put("p", { role: "prefill" });
  const probe = request(80);
  await dispatcher.acquire(probe, forever);
  const stored = [...probe.hashes.values()][0];
  kvIndex.apply({
    workerId: "e",
    model: "demo",
    number: 1,
    stored,
    removed: [],
  });
  const lease = await dispatcher.acquire(request(80), forever);
  equal(lease.worker.record.workerId, "e");
  deepEqual([lease.prefill, lease.decision.uncachedTokens], [undefined, 0]);
  deepEqual(
    lease.decision.decode.map(({ matchedTokens }) => matchedTokens).sort(),
    [0, 80],
  );
});

test("ties are broken by the random number given", async () => {
  const chosen = new Set<string>();
  for (const random of [0, 0.4, 0.99]) {
    const { dispatcher, put } = setUp({ random: () => random });
    for (const id of ["a", "b", "c"]) put(id);
    const { worker } = await dispatcher.acquire(request(), forever);
    chosen.add(worker.record.workerId);
  }
  equal(chosen.size, 3);
});

test("a replay passes a full queue, goes before newcomers and outlasts the hold", async () => {
  const { dispatcher, put, clock } = setUp({ sequencesMax: 1 });
  const newcomers = [1, 2, 3].map((n) => {
    const held = dispatcher.acquire(request(), forever);
    return Promise.resolve(held).then(() => `newcomer ${n}`, () => "late");
  });
  const controller = new AbortController();
  const replay = (signal: AbortSignal) =>
    dispatcher.acquire({ ...request(), isReplay: true }, signal);
  const first = replay(forever);
  const second = Promise.resolve(replay(controller.signal));
  equal(dispatcher.heldCount("demo"), 5);
  clock.advance(30_000);
  deepEqual(await Promise.all(newcomers), ["late", "late", "late"]);
  equal(dispatcher.heldCount("demo"), 2);
  controller.abort(new Error("deadline"));
  await rejects(second, { message: "deadline" });
  void dispatcher.acquire(request(), forever);
  put("a");
  equal((await first).worker.record.workerId, "a");
  equal(dispatcher.heldCount("demo"), 1);
});

test("replays go in their own order, before those that came earlier", async () => {
  const { dispatcher, put, clock } = setUp({ sequencesMax: 1 });
  const order: string[] = [];
  const wait = async (name: string, isReplay: boolean) => {
    const held = dispatcher.acquire({ ...request(), isReplay }, forever);
    const lease = await held;
    order.push(name);
    lease[Symbol.dispose]();
  };
  const all = [
    wait("newcomer", false),
    wait("replay 1", true),
    wait("replay 2", true),
  ];
  put("a");
  await Promise.all(all);
  deepEqual(order, ["replay 1", "replay 2", "newcomer"]);
  equal(clock.timerCount, 1, "the wake timer alone is left");
});

test("a request that a worker can take at once does not queue behind one that none can", async () => {
  const { dispatcher, put } = setUp({ sequencesMax: 1 });
  put("short", { model: { contextLength: 100 } });
  put("long", { model: { contextLength: 900 } });
  await dispatcher.acquire(request(20, 500), forever);
  void dispatcher.acquire(request(20, 500), forever);
  const short = await dispatcher.acquire(request(20, 50), forever);
  deepEqual([short.worker.record.workerId, short.heldMs], ["short", 0]);
  equal(dispatcher.heldCount("demo"), 1);
});

test("the end of a sequence lets go on who came first, of whatever model", async () => {
  const { dispatcher, workers } = setUp({ sequencesMax: 1 });
  const record = workerRecord("a");
  const models = [...record.models, { ...record.models[0], model: "other" }];
  workers.apply({ kind: "put", record: { ...record, models } });
  const running = await dispatcher.acquire(request(), forever);
  const order: string[] = [];
  const wait = async (model: string) => {
    const lease = await dispatcher.acquire({ ...request(), model }, forever);
    order.push(model);
    lease[Symbol.dispose]();
  };
  const all = [wait("other"), wait("demo")];
  running[Symbol.dispose]();
  await Promise.all(all);
  deepEqual(order, ["other", "demo"]);
});

test("a call that works ends the distrust, and held requests go on at once", async () => {
  const { dispatcher, workers, put } = setUp();
  put("a");
  const { worker } = await dispatcher.acquire(request(), forever);
  workers.distrust(worker);
  const held = dispatcher.acquire(request(), forever);
  equal(dispatcher.heldCount("demo"), 1);
  workers.trust(worker);
  equal(dispatcher.heldCount("demo"), 0);
  equal((await held).worker, worker);
});

test("disposing ends the held requests as unavailable", async () => {
  const { dispatcher } = setUp();
  const held = Promise.resolve(dispatcher.acquire(request(), forever));
  dispatcher[Symbol.dispose]();
  await rejects(held, (reason: { code: number }) => {
    ok(reason.code === Code.unavailable);
    return true;
  });
});

test("an idle decode worker computes prompts itself up to a length of their own", async () => {
  const { dispatcher, put } = setUp({
    prefillIdleTokensMin: 1_024,
    sequencesMax: 8,
  });
  put("d");
  put("p", { role: "prefill" });
  const idle = await dispatcher.acquire(request(1_023), forever);
  deepEqual([idle.prefill, idle.decision.prefillReason], [
    undefined,
    "idle decode worker",
  ]);
  const beside = await dispatcher.acquire(request(64), forever);
  equal(beside.prefill?.record.workerId, "p", "one sequence runs there");
  for (const lease of [idle, beside]) lease[Symbol.dispose]();
  const long = await dispatcher.acquire(request(1_024), forever);
  equal(long.prefill?.record.workerId, "p");
  long[Symbol.dispose]();
  put("d", { model: { running: 1 } });
  const others = await dispatcher.acquire(request(64), forever);
  equal(others.prefill?.record.workerId, "p", "another router has one there");
});

test("an embedding goes to a prefill worker, or to a decode worker when none has a place", async () => {
  const { dispatcher, put, workers } = setUp({ sequencesMax: 1 });
  put("d");
  put("p", { role: "prefill" });
  const embed: RouteRequest = { ...request(), task: "embed" };
  const first = await dispatcher.acquire(embed, forever);
  const second = await dispatcher.acquire(embed, forever);
  deepEqual(
    [first, second].map(({ worker, prefill, decision }) => [
      worker.record.workerId,
      prefill,
      decision.prefillReason,
      decision.prefill.length,
      decision.decode.length,
    ]),
    [
      ["p", undefined, "prefill worker", 1, 0],
      ["d", undefined, "no prefill worker", 0, 1],
    ],
  );
  equal(workers.get("prefill", "p")?.inFlight, 1);
  first[Symbol.dispose]();
  workers.distrust(workers.get("prefill", "p")!);
  second[Symbol.dispose]();
  const third = await dispatcher.acquire(embed, forever);
  equal(third.worker.record.workerId, "d");
});

test("an embedding that waits wakes nobody while a worker of either role is there", async () => {
  const { dispatcher, put, clock, wakes } = setUp({ sequencesMax: 1 });
  put("p", { role: "prefill" });
  const embed: RouteRequest = { ...request(), task: "embed" };
  using _lease = await dispatcher.acquire(embed, forever);
  void Promise.resolve(dispatcher.acquire(embed, forever)).catch(() => {});
  clock.advance(2_000);
  deepEqual(wakes, []);
  void Promise.resolve(dispatcher.acquire(request(), forever)).catch(() => {});
  clock.advance(1_000);
  equal(wakes.at(-1), 2);
});

test("an embedding longer than every context is refused", () => {
  const { dispatcher, put } = setUp();
  put("p", { role: "prefill", model: { contextLength: 100 } });
  put("d", { model: { contextLength: 50 } });
  const embed = (length: number): RouteRequest => ({
    ...request(length),
    task: "embed",
  });
  throws(() => dispatcher.acquire(embed(101), forever), /have 100/);
});
