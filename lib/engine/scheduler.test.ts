import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { PrefixCache } from "./prefix_cache.ts";
import { Scheduler } from "./scheduler.ts";
import { Sequence } from "./sequence.ts";
import { promptOf, spec } from "./testing/sequences.ts";

/** Sequences named by their arrival, with prompts of the given lengths. */
function setUp(options: {
  blocks?: number;
  rowsMax?: number;
  runningMax?: number;
  waitingMax?: number;
  prompts: readonly number[];
}) {
  const cache = new PrefixCache(options.blocks ?? 64);
  const scheduler = new Scheduler({
    cache,
    rowsMax: options.rowsMax ?? 32,
    runningMax: options.runningMax ?? 8,
    waitingMax: options.waitingMax ?? 8,
  });
  const sequences = options.prompts.map((length, order) =>
    new Sequence({
      order,
      spec: spec({ prompt: promptOf(length, order + 1) }),
      fingerprint: "toy",
      owner: { progressed() {}, chosen: () => true, failed() {} },
      arrivedMs: 0,
    })
  );
  return { cache, scheduler, sequences };
}

type Parts = ReturnType<typeof setUp>;

/** One step: `[arrival, rows]` of each planned sequence; each full one gets a token. */
function step({ scheduler }: Parts): [number, number][] {
  scheduler.admit();
  const plan = scheduler.plan();
  return plan.sequences.map((sequence, i) => {
    const rows = plan.rowCounts[i];
    scheduler.advance(sequence, rows);
    if (sequence.pendingCount === 0) sequence.addToken(5);
    return [sequence.order, rows];
  });
}

test("a prompt runs in chunks of what the step has left", () => {
  const parts = setUp({ prompts: [40, 30], rowsMax: 32 });
  for (const sequence of parts.sequences) parts.scheduler.enqueue(sequence);
  deepEqual(step(parts), [[0, 32]]);
  deepEqual(step(parts), [[0, 8], [1, 24]]);
  deepEqual(step(parts), [[0, 1], [1, 6]]);
  deepEqual(step(parts), [[0, 1], [1, 1]]);
});

test("decoding rows come before a prompt that arrived earlier", () => {
  const parts = setUp({ prompts: [100, 5], rowsMax: 16 });
  parts.scheduler.enqueue(parts.sequences[1]);
  step(parts);
  parts.scheduler.enqueue(parts.sequences[0]);
  deepEqual(step(parts), [[1, 1], [0, 15]]);
});

test("the waiting queue has a size", () => {
  const { scheduler, sequences } = setUp({ prompts: [5, 5, 5], waitingMax: 2 });
  deepEqual(sequences.map((sequence) => scheduler.enqueue(sequence)), [
    true,
    true,
    false,
  ]);
});

test("no more than runningMax sequences are admitted", () => {
  const { scheduler, sequences } = setUp({ prompts: [5, 5, 5], runningMax: 2 });
  for (const sequence of sequences) scheduler.enqueue(sequence);
  equal(scheduler.admit().length, 2);
  scheduler.end(sequences[0]);
  deepEqual(scheduler.admit(), [sequences[2]]);
});

test("a large sequence at the head is not overtaken by small ones", () => {
  const { scheduler, sequences } = setUp({
    blocks: 10,
    prompts: [100, 100, 5],
  });
  for (const sequence of sequences) scheduler.enqueue(sequence);
  deepEqual(scheduler.admit(), [sequences[0]]);
  deepEqual(scheduler.admit(), []);
  scheduler.end(sequences[0]);
  deepEqual(scheduler.admit(), [sequences[1], sequences[2]]);
});

test("the youngest gives its blocks back when an older one needs them", () => {
  const parts = setUp({ blocks: 4, prompts: [16, 16] });
  const [old, young] = parts.sequences;
  parts.scheduler.enqueue(old);
  step(parts);
  parts.scheduler.enqueue(young);
  while (young.preemptions === 0) step(parts);
  equal(young.phase, "waiting");
  equal(young.blockCount, 0);
  equal(old.preemptions, 0);
  parts.scheduler.end(old);
  parts.scheduler.admit();
  equal(young.phase, "running");
  equal(young.kvCount % 16, 0);
});

test("a preempted sequence keeps its place before later arrivals", () => {
  const parts = setUp({ blocks: 4, prompts: [16, 16, 16] });
  for (const sequence of parts.sequences) parts.scheduler.enqueue(sequence);
  while (parts.sequences[1].preemptions === 0) step(parts);
  deepEqual(parts.scheduler.waiting.map(({ order }) => order), [1, 2]);
});

test("blocks of a fetching sequence are not taken from it", () => {
  const parts = setUp({ blocks: 4, prompts: [16, 16] });
  const [old, young] = parts.sequences;
  young.fetchKv = () => Promise.reject(new Error("never called"));
  parts.scheduler.enqueue(old);
  parts.scheduler.enqueue(young);
  while (old.preemptions === 0) step(parts);
  equal(young.phase, "fetching");
  equal(young.blockCount, 1);
});

test("the last token of a fully cached prompt is computed again", () => {
  const parts = setUp({ prompts: [32] });
  const twin = new Sequence({
    order: 1,
    spec: parts.sequences[0].spec,
    fingerprint: "toy",
    owner: parts.sequences[0].owner,
    arrivedMs: 0,
  });
  parts.scheduler.enqueue(parts.sequences[0]);
  step(parts);
  parts.scheduler.enqueue(twin);
  parts.scheduler.admit();
  equal(twin.kvCount, 16);
});

test("end() gives every block back, from each phase", () => {
  const parts = setUp({ blocks: 8, prompts: [40, 40, 40] });
  for (const sequence of parts.sequences) parts.scheduler.enqueue(sequence);
  step(parts);
  for (const sequence of parts.sequences) parts.scheduler.end(sequence);
  equal(parts.cache.availableCount, 8);
  deepEqual([parts.scheduler.running, parts.scheduler.waiting], [[], []]);
});
