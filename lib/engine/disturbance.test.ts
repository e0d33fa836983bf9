/**
 * The promise behind batching: what a sequence says does not depend on who runs
 * beside it, on chunks, on preemption, or on what the prefix cache holds.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { test } from "vitest";
import { createToyEngine, promptOf, run } from "./testing/sequences.ts";
import type { Sampling } from "./types.ts";

interface Arrival {
  promptSeed: number;
  promptLength: number;
  maxTokens: number;
  afterSteps: number;
  abortAfterSteps: number | undefined;
  temperature: number;
  repetitionPenalty: number;
  fetch: "none" | "fails" | "slow";
}

const arrival = fc.record<Arrival>({
  // Few seeds, so that prompts share beginnings and whole blocks.
  promptSeed: fc.integer({ min: 1, max: 8 }),
  promptLength: fc.oneof(
    fc.integer({ min: 1, max: 90 }),
    fc.integer({ min: 8, max: 30 }),
  ),
  maxTokens: fc.oneof(fc.integer({ min: 1, max: 50 }), fc.constant(50)),
  afterSteps: fc.nat(9),
  abortAfterSteps: fc.option(fc.nat(60), { nil: undefined, freq: 2 }),
  temperature: fc.constantFrom(0, 1),
  // A penalty needs each token before the next step is planned.
  repetitionPenalty: fc.constantFrom(1, 1, 1, 1, 1.1),
  fetch: fc.constantFrom("none", "none", "none", "fails", "slow"),
});

function partsOf(
  { promptSeed, promptLength, maxTokens, temperature, repetitionPenalty }:
    Arrival,
) {
  const sampling: Partial<Sampling> = {
    temperature,
    seed: BigInt(promptSeed),
    repetitionPenalty,
    stopIds: [11, 23, 42],
  };
  return { prompt: promptOf(promptLength, promptSeed), maxTokens, sampling };
}

const aloneCache = new Map<string, readonly number[]>();

async function alone(arrival: Arrival): Promise<readonly number[]> {
  const { promptSeed, promptLength, maxTokens, temperature } = arrival;
  const key = [
    promptSeed,
    promptLength,
    maxTokens,
    temperature,
    arrival.repetitionPenalty,
  ].join();
  const known = aloneCache.get(key);
  if (known) return known;
  await using toy = createToyEngine({ rowsMax: 512 }).engine;
  const { ids } = await run(toy, partsOf(arrival));
  aloneCache.set(key, ids);
  return ids;
}

test.each([
  ["one step after another", false],
  ["steps queued ahead", true],
])(
  "%s: tokens are those of an undisturbed run, and all blocks come back",
  async (_, chainsSteps) => {
    let aheadSteps = 0;
    let preemptions = 0;
    let aborts = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(arrival, { minLength: 4, maxLength: 16 }),
        fc.integer({ min: 9, max: 14 }),
        fc.constantFrom(8, 17, 64),
        async (arrivals, kvBlocks, rowsMax) => {
          const warnings: string[] = [];
          const { engine, model } = createToyEngine({
            kvBlocks,
            rowsMax,
            chainsSteps,
            onWarning: (message) => warnings.push(message),
          });
          await using _ = engine;
          const steps = async (count: number) => {
            for (let i = 0; i < count; i++) {
              await new Promise((resolve) => setImmediate(resolve));
            }
          };
          await Promise.all(arrivals.map(async (arrival) => {
            await steps(arrival.afterSteps);
            const controller = new AbortController();
            const { abortAfterSteps } = arrival;
            if (abortAfterSteps !== undefined) {
              steps(abortAfterSteps).then(() => controller.abort("left"));
            }
            const fetchKv = arrival.fetch === "none" ? undefined : async () => {
              await steps(arrival.fetch === "slow" ? 30 : 3);
              if (arrival.fetch === "fails") throw new Error("no KV today");
              return { tokens: 0 };
            };
            const options = { signal: controller.signal, fetchKv };
            try {
              const { ids, finished } = await run(
                engine,
                partsOf(arrival),
                options,
              );
              preemptions += finished.preemptions;
              deepEqual(ids, await alone(arrival));
            } catch (error) {
              if (error !== "left") throw error;
              aborts++;
            }
          }));
          await steps(40);
          equal(engine.status().running + engine.status().waiting, 0);
          equal(engine.status().blocksFree, kvBlocks);
          ok(
            warnings.every((warning) => warning.includes("did not arrive")),
            warnings[0],
          );
          equal(model.closed, false);
          aheadSteps += model.aheadCount;
        },
      ),
      { numRuns: 60 },
    );
    ok(preemptions > 0, `only ${preemptions} preemptions were tried`);
    ok(aborts > 20, `only ${aborts} aborts were tried`);
    const least = chainsSteps ? 300 : 0;
    ok(aheadSteps >= least, `only ${aheadSteps} steps were queued ahead`);
  },
  60_000,
);
