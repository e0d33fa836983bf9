import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "vitest";
import type { Engine } from "../engine/types.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { ModelSource } from "../model_source/types.ts";
import type { PreparedModel } from "./load_models.ts";
import { MemoryBudget } from "./memory_budget.ts";
import { ModelHost } from "./model_host.ts";
import { servedModel, ServedModels } from "./served_models.ts";
import { FakeEngine } from "./testing/fake_engine.ts";

const a: ModelSource = { path: "/models/a.gguf" };
const b: ModelSource = { path: "/models/b.gguf" };
const forever = new AbortController().signal;
const soon = { signal: forever, ms: 20 };

/** One model takes weights of 1,000 and a pool of 25,600 bytes. */
const modelBytes = 26_600;

let models: ServedModels;
let budget: MemoryBudget;
let host: ModelHost;
let engines: FakeEngine[];
let closed: Engine[];
/** Run by the next loads, in order, before their engine is there. */
let beforeStart: (() => Promise<void>)[];
let fetches: { source: ModelSource; signal: AbortSignal }[];
let fetchFile: (signal: AbortSignal) => Promise<string>;

beforeEach(() => {
  models = new ServedModels();
  budget = new MemoryBudget(2 * modelBytes + 10);
  [engines, closed, beforeStart, fetches] = [[], [], [], []];
  fetchFile = () => Promise.resolve("/models/file.gguf");
  host = new ModelHost({
    models,
    budget,
    fetchFile: (source, { signal, onProgress }) => {
      fetches.push({ source, signal });
      onProgress(0.5);
      return fetchFile(signal);
    },
    prepare: ({ name }) => prepared(name),
  });
});

afterEach(async () => {
  await host[Symbol.asyncDispose]();
  await models[Symbol.asyncDispose]();
});

function prepared(name: string): PreparedModel {
  return {
    identity: {
      fingerprint: "fake-1",
      contextLength: 4_096,
      blockTokens: 16,
      weightBytes: 1_000,
      kvBytes: modelBytes - 1_000,
    },
    async start() {
      await beforeStart.shift()?.();
      const engine = new FakeEngine();
      engines.push(engine);
      const close = engine[Symbol.asyncDispose].bind(engine);
      engine[Symbol.asyncDispose] = () => {
        closed.push(engine);
        return close();
      };
      return servedModel(name, engine, []);
    },
  };
}

const load = (model: string, source = a, asleep = false) =>
  host.load({ model, source, asleep });

function states(): Record<string, string> {
  return Object.fromEntries(
    models.records().map(({ model, state }) => [model, state]),
  );
}

function isCode(code: Code, message?: RegExp) {
  return (reason: unknown) => {
    ok(reason instanceof MeshError, String(reason));
    equal(reason.code, code, reason.message);
    if (message) ok(message.test(reason.message), reason.message);
    return true;
  };
}

describe("load", () => {
  test("a loaded model runs, and takes its memory from the budget", async () => {
    await load("m");
    deepEqual(states(), { m: "running" });
    equal(models.get("m").name, "m");
    equal(budget.bytesFree, modelBytes + 10);
  });

  test("the same source again answers at once; another one is refused", async () => {
    await load("m");
    await load("m");
    equal(engines.length, 1);
    await rejects(load("m", b), isCode(Code.alreadyExists));
    deepEqual(states(), { m: "running" });
  });

  test("two calls at once load one engine", async () => {
    await Promise.all([load("m"), load("m")]);
    equal(engines.length, 1);
  });

  test("a model that does not fit is refused with both numbers and takes nothing", async () => {
    await load("m");
    await load("n", b);
    await rejects(
      load("o"),
      isCode(Code.resourceExhausted, /needs 26600 bytes .* 10 of 53210 are/),
    );
    equal(states().o, "failed");
    equal(budget.bytesFree, 10);
    await host.unload("m", soon);
    await load("o");
    deepEqual(states(), { n: "running", o: "running" });
  });

  test("two loads at once cannot both count on the same memory", async () => {
    await load("m");
    const outcomes = await Promise.allSettled([load("n", b), load("o")]);
    deepEqual(
      outcomes.map(({ status }) => status).toSorted(),
      ["fulfilled", "rejected"],
    );
  });

  test("a failed load leaves its reason and nothing else, and may be tried again", async () => {
    beforeStart = [() => Promise.reject(new Error("no such tensor"))];
    await rejects(load("m"), isCode(Code.internal, /no such tensor/));
    equal(budget.bytesFree, budget.bytesTotal);
    const [{ record, error }] = models.reports();
    deepEqual([record.state, error], ["failed", "no such tensor"]);
    await rejects(
      Promise.resolve().then(() => models.get("m")),
      isCode(Code.unavailable),
    );
    await load("m", b);
    deepEqual(states(), { m: "running" });
  });

  test("its progress is told while the file is fetched", async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    fetchFile = () => promise;
    const loading = load("m");
    await Promise.resolve();
    const [{ record, progress }] = models.reports();
    deepEqual([record.state, progress], ["loading", 0.45]);
    resolve("/file");
    await loading;
    equal(models.reports()[0].progress, 1);
  });

  test("an unload stops a load that is under way", async () => {
    fetchFile = (signal) =>
      new Promise((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason))
      );
    const loading = load("m");
    await Promise.resolve();
    const unloading = host.unload("m", soon);
    await rejects(loading, isCode(Code.unavailable, /stopped by an unload/));
    equal(await unloading, 0);
    deepEqual(states(), {});
  });

  test("an unload while the engine starts closes that engine", async () => {
    const started = Promise.withResolvers<void>();
    beforeStart = [() => started.promise];
    const loading = load("m");
    await new Promise(setImmediate);
    equal(states().m, "loading");
    const unloading = host.unload("m", soon);
    started.resolve();
    await rejects(loading, isCode(Code.unavailable));
    await unloading;
    deepEqual(closed, engines);
    equal(budget.bytesFree, budget.bytesTotal);
  });
});

describe("sleep and wake", () => {
  test("a sleeping model takes nothing and refuses sequences until it is woken", async () => {
    await load("m");
    await host.sleep("m", soon);
    deepEqual(states(), { m: "asleep" });
    equal(budget.bytesFree, budget.bytesTotal);
    deepEqual(closed, engines);
    await rejects(
      Promise.resolve().then(() => models.get("m")),
      isCode(Code.unavailable, /asleep/),
    );
    await host.wake("m");
    deepEqual(states(), { m: "running" });
    equal(fetches.length, 1);
  });

  test("a model may be loaded asleep, and another load wakes it", async () => {
    await load("m", a, true);
    deepEqual(states(), { m: "asleep" });
    equal(engines.length, 0);
    equal(models.records()[0].fingerprint, "fake-1");
    await load("m");
    deepEqual(states(), { m: "running" });
  });

  test("a wake that fails leaves the model asleep with the reason", async () => {
    await load("m", a, true);
    await load("n", b);
    await load("o", b);
    await rejects(host.wake("m"), isCode(Code.resourceExhausted));
    const report = models.reports().find(({ record }) => record.model === "m")!;
    equal(report.record.state, "asleep");
    ok(/needs 26600 bytes/.test(report.error), report.error);
    await host.sleep("n", soon);
    await host.wake("m");
    equal(states().m, "running");
  });

  test("both do nothing when the model is there already, and name what is known otherwise", async () => {
    await load("m");
    await host.wake("m");
    equal(engines.length, 1);
    await host.sleep("m", soon);
    await host.sleep("m", soon);
    await rejects(host.wake("x"), isCode(Code.notFound, /this worker has m/));
    await rejects(host.sleep("x", soon), isCode(Code.notFound));
    await rejects(host.unload("x", soon), isCode(Code.notFound));
  });
});

describe("running sequences", () => {
  test("may end before the bound, while new ones are refused", async () => {
    await load("m");
    const { admission } = models.get("m");
    const running = admission.enter(forever);
    const unloading = host.unload("m", { signal: forever, ms: 60_000 });
    await new Promise(setImmediate);
    equal(states().m, "unloading");
    await rejects(
      Promise.resolve().then(() => models.get("m")),
      isCode(Code.unavailable, /leaving/),
    );
    equal(running.signal.aborted, false);
    running[Symbol.dispose]();
    equal(await unloading, 0);
    deepEqual(states(), {});
  });

  test("are ended in-band at the bound, by an error that names the model", async () => {
    await load("m");
    const running = models.get("m").admission.enter(forever);
    running.signal.addEventListener("abort", () => running[Symbol.dispose]());
    equal(await host.sleep("m", soon), 1);
    const reason = running.signal.reason;
    ok(isCode(Code.unavailable)(reason));
    equal(reason.field, "model");
    deepEqual(states(), { m: "asleep" });
  });

  test("go on when whoever asked for the unload has gone", async () => {
    await load("m");
    const running = models.get("m").admission.enter(forever);
    const caller = new AbortController();
    const unloading = host.unload("m", { signal: caller.signal, ms: 60_000 });
    await new Promise(setImmediate);
    caller.abort(new MeshError(Code.cancelled, "The caller cancelled"));
    await rejects(unloading, isCode(Code.cancelled));
    deepEqual(states(), { m: "running" });
    equal(running.signal.aborted, false);
    models.get("m").admission.enter(forever)[Symbol.dispose]();
    running[Symbol.dispose]();
    // And the model can still be changed.
    await host.sleep("m", soon);
    await host.wake("m");
    deepEqual(states(), { m: "running" });
  });
});

test("calls about one model run one after the other", async () => {
  const outcomes = await Promise.allSettled([
    load("m"),
    host.sleep("m", soon),
    host.wake("m"),
    host.unload("m", soon),
    load("m", b),
  ]);
  deepEqual(outcomes.map(({ status }) => status), Array(5).fill("fulfilled"));
  deepEqual(states(), { m: "running" });
  equal(engines.length, 3);
});

test("listeners hear of each model's coming, and of its leaving before its engine is closed", async () => {
  const heard: string[] = [];
  using _ = models.listen({
    came: ({ name }) => heard.push(`+${name}`),
    left: ({ name }) => heard.push(`-${name} closed: ${closed.length}`),
  });
  await load("m");
  await host.sleep("m", soon);
  await host.wake("m");
  await host.unload("m", soon);
  deepEqual(heard, ["+m", "-m closed: 0", "+m", "-m closed: 1"]);
});

test("a host that closes stops what is being loaded and takes nothing more", async () => {
  fetchFile = (signal) =>
    new Promise((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason))
    );
  const loading = load("m");
  await Promise.resolve();
  await Promise.all([
    host[Symbol.asyncDispose](),
    rejects(loading, isCode(Code.unavailable)),
  ]);
  await rejects(load("n"), isCode(Code.unavailable));
});
