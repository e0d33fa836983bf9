/** A Scaler whose pools rest decides what one does that looks at them each second. */
import { deepEqual, ok } from "node:assert/strict";
import fc from "fast-check";
import { test } from "vitest";
import { createLocalBus } from "../../../lib/bus/mod.ts";
import {
  workerModel,
  workerRecord,
} from "../../../lib/bus/testing/worker_records.ts";
import type { WorkerModel } from "../../../lib/bus/types.ts";
import { WorkerBook } from "../controller/worker_book.ts";
import { modelSpec, parse, workerPoolSpec } from "../crds/mod.ts";
import { MeshView } from "../mesh/mesh_view.ts";
import type { PodView } from "./pool_workers.ts";
import { Scaler } from "./scaler.ts";

type Step =
  | { readonly kind: "idle"; readonly seconds: number }
  | {
    readonly kind: "load";
    readonly model: string;
    readonly running: number;
    readonly waiting: number;
    readonly seconds: number;
  }
  | { readonly kind: "hold"; readonly model: string; readonly held: number }
  | { readonly kind: "restart" }
  | { readonly kind: "remove"; readonly model: string }
  | { readonly kind: "respec"; readonly model: string; readonly min: number };

const model = fc.constantFrom("a", "b", "c");
const seconds = fc.integer({ min: 1, max: 150 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant("idle" as const), seconds }),
  fc.record({
    kind: fc.constant("load" as const),
    model,
    running: fc.integer({ min: 0, max: 9 }),
    waiting: fc.integer({ min: 0, max: 3 }),
    seconds,
  }),
  fc.record({
    kind: fc.constant("hold" as const),
    model,
    held: fc.integer({ min: 1, max: 5 }),
  }),
  fc.record({ kind: fc.constant("restart" as const) }),
  fc.record({ kind: fc.constant("remove" as const), model }),
  fc.record({
    kind: fc.constant("respec" as const),
    model,
    min: fc.integer({ min: 0, max: 2 }),
  }),
);

test("who rests decides as who looks each second, and looks far less often", async () => {
  let [looks, looksOfAll] = [0, 0];
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 3, maxLength: 12 }),
      async (steps) => {
        const resting = await play(steps, 60_000);
        const watching = await play(steps, 0);
        deepEqual(resting.story, watching.story);
        looks += resting.looks;
        looksOfAll += watching.looks;
      },
    ),
    { numRuns: 100 },
  );
  ok(looks < 0.8 * looksOfAll, `${looks} of ${looksOfAll} looks`);
});

test("nothing is looked at while everybody rests, but once a minute", async () => {
  const idle = await play([{ kind: "idle", seconds: 3_600 }], 60_000);
  deepEqual(idle.story, []);
  ok(idle.looks <= 65, `${idle.looks} looks in an hour`);
  const watching = await play([{ kind: "idle", seconds: 3_600 }], 0);
  ok(watching.looks > 3_600);
});

/** Plays a small cluster that does at once what it is told, and writes down what that was. */
async function play(steps: readonly Step[], lookAtAllMs: number) {
  const world = new World(lookAtAllMs);
  await using _bus = world.bus;
  await world.seconds(1);
  for (const each of steps) await world.play(each);
  await world.seconds(30);
  world.stop.abort();
  return { story: world.story, looks: world.looks };
}

class World {
  readonly bus = createLocalBus();
  readonly stop = new AbortController();
  readonly story: string[] = [];
  looks = 0;
  #nowMs = 0;
  #pods: PodView[] = [];
  #nextPod = 0;
  readonly #models = new Map<string, Map<string, Partial<WorkerModel>>>();
  readonly #book = new WorkerBook();
  readonly #mesh: MeshView;
  readonly #scaler: Scaler;

  constructor(lookAtAllMs: number) {
    this.#mesh = new MeshView({
      nowMs: () => this.#nowMs,
      settleMs: 0,
      onWake: ({ model }) => this.#scaler.wake(model),
      onWorker: (change) => {
        const news = this.#book.take(change);
        if (news?.record) this.#scaler.workerChanged(news.record);
        if (news) this.#scaler.podsChanged("p");
      },
    });
    this.#scaler = new Scaler({
      mesh: this.#mesh,
      nowMs: () => this.#nowMs,
      podsOf: () => {
        this.looks++;
        return this.#pods;
      },
      isProtected: () => false,
      pendingOf: () => new Set(),
      onPool: ({ from, decision }) =>
        this.#tell(`${from} -> ${decision.wanted} pods: ${decision.reason}`),
      onModel: ({ model, from, decision }) =>
        this.#tell(`${model}: ${from.copies} -> ${decision.replicas}`),
      onActions: (_pool, actions) => {
        for (const { kind, worker, model } of actions) {
          this.#tell(`${kind} ${model} on ${worker}`);
          const own = this.#models.get(worker)!;
          if (kind === "load") own.set(model, { running: 0, waiting: 0 });
          else own.delete(model);
        }
      },
      lookAtAllMs,
    });
    void this.#mesh.follow(this.bus, this.stop.signal).catch(() => {});
    const pool = parse(workerPoolSpec, {
      scaling: { replicasMax: 3, idleSeconds: 15 },
    }, "spec");
    ok(pool.kind === "valid");
    this.#scaler.setPool("p", pool.value, 0);
    for (const name of ["a", "b", "c"]) this.#setModel(name, 0);
  }

  async play(each: Step): Promise<void> {
    switch (each.kind) {
      case "idle":
        return await this.seconds(each.seconds);
      case "hold":
        this.bus.publishWake({
          routerId: "r",
          model: each.model,
          atMs: 0,
          held: each.held,
        });
        return await this.seconds(3);
      case "load":
        for (let second = 0; second < each.seconds; second++) {
          await this.#load(each);
        }
        return await this.#load({ ...each, running: 0, waiting: 0 });
      case "restart":
        await this.#restartFirst();
        return await this.seconds(2);
      case "remove":
        this.#scaler.removeModel(each.model);
        return await this.seconds(1);
      case "respec":
        this.#setModel(each.model, each.min);
        return await this.seconds(1);
    }
  }

  async seconds(count: number): Promise<void> {
    for (let second = 0; second < count; second++) {
      this.#nowMs += 1_000;
      this.#scaler.tick();
      this.#followPods();
      await this.#report();
    }
  }

  async #load(
    { model, running, waiting }: {
      readonly model: string;
      readonly running: number;
      readonly waiting: number;
    },
  ): Promise<void> {
    for (const models of this.#models.values()) {
      if (models.has(model)) models.set(model, { running, waiting });
    }
    await this.#report();
    await this.seconds(1);
  }

  async #restartFirst(): Promise<void> {
    const [first] = this.#pods;
    if (!first) return;
    await this.#end(first);
    await this.#report();
  }

  #setModel(name: string, replicasMin: number): void {
    const parsed = parse(modelSpec, {
      source: { path: `/${name}` },
      pool: "p",
      scaling: { replicasMin, idleSeconds: 10, targetPerReplica: 4 },
    }, "spec");
    ok(parsed.kind === "valid");
    this.#scaler.setModel(name, parsed.value, { weightBytes: 0 });
  }

  /** Brings the pods to the number that is wanted. */
  #followPods(): void {
    const { wanted } = this.#scaler.poolWanted("p")!;
    while (this.#pods.length < wanted) {
      const name = `pod-${this.#nextPod++}`;
      const readySinceMs = this.#nowMs;
      this.#models.set(name, new Map());
      this.#pods.push({
        name,
        node: "n",
        ready: true,
        deleting: false,
        readySinceMs,
      });
      this.#scaler.podsChanged("p");
    }
    for (const pod of this.#pods.slice(wanted)) void this.#end(pod);
  }

  async #end(pod: PodView): Promise<void> {
    this.#pods = this.#pods.filter((own) => own !== pod);
    this.#models.delete(pod.name);
    this.#scaler.podsChanged("p");
    await this.bus.removeWorker("decode", pod.name);
  }

  async #report(): Promise<void> {
    for (const [workerId, models] of this.#models) {
      await this.bus.putWorker(workerRecord(workerId, {
        podName: workerId,
        models: [...models].map(([model, own]) => workerModel(model, own)),
      }));
    }
    // The bus hands on in its own time.
    await new Promise((resolve) => setImmediate(resolve));
  }

  #tell(what: string): void {
    this.story.push(`${this.#nowMs / 1_000} s: ${what}`);
  }
}
