/**
 * Steps queued ahead on the CUDA backend, over an emulated driver that works late: what
 * is put on a stream happens when somebody waits for it, or has asked often enough.
 */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterAll, afterEach, beforeAll, test } from "vitest";
import { emulatedNative } from "../../kernels/cuda/testing.ts";
import { createEngine, type Engine, type Native } from "./mod.ts";
import { promptOf, run, spec, type SpecParts } from "./testing/sequences.ts";
import { writeTinyModel } from "./testing/tiny_model.ts";

const folder = mkdtempSync(join(tmpdir(), "quetzal-ahead-"));
const path = join(folder, "tiny.gguf");
let native: Native;
beforeAll(async () => {
  native = await emulatedNative();
  writeTinyModel(path, { width: 64, headDim: 32, contextLength: 96 });
}, 600_000);
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  delete process.env.QUETZAL_FAKE_CUDA_LAZY;
  delete process.env.QUETZAL_FAKE_CUDA_TRACE;
  delete process.env.QUETZAL_FAKE_CUDA_LOST;
});

/** The same models without the gift of taking tokens from the step before. */
function withoutChains(native: Native): Native {
  return {
    ...native,
    async loadModel(spec) {
      const model = await native.loadModel(spec);
      return {
        isa: model.isa,
        kv: model.kv,
        kvBlockBytes: model.kvBlockBytes,
        weightBytes: model.weightBytes,
        kvBlock: (blockId) => model.kvBlock!(blockId),
        step: (batch) => model.step(batch),
        close: () => model.close(),
      };
    },
  };
}

/** Steps of at most four rows: logits are the same bits in any company. */
function load(
  native: Native,
  onWarning?: (message: string) => void,
): Promise<Engine> {
  return createEngine({
    path,
    native,
    backend: "cuda",
    kvBlocks: 40,
    rowsMax: 4,
    runningMax: 4,
    ...(onWarning && { onWarning }),
  });
}

interface Guest extends SpecParts {
  /** Tokens that others have seen before it comes. */
  comesAfter: number;
  leavesAfter?: number;
}

/** All guests on one engine; ids of each, also of those that left. */
async function serve(
  engine: Engine,
  guests: readonly Guest[],
): Promise<number[][]> {
  let seen = 0;
  const arrived = async (count: number) => {
    while (seen < count) await new Promise((resolve) => setTimeout(resolve, 1));
  };
  return await Promise.all(guests.map(async (guest) => {
    await arrived(guest.comesAfter);
    const ids: number[] = [];
    const { signal } = new AbortController();
    for await (const event of engine.generate(spec(guest), { signal })) {
      if (event.kind !== "tokens") continue;
      ids.push(...event.tokens.map(({ id }) => id));
      seen += event.tokens.length;
      if (ids.length === guest.leavesAfter) break;
    }
    return ids;
  }));
}

test(
  "ids are those of one step after another, with arrivals, stops and cancels",
  async () => {
    await using plain = await load(withoutChains(native));
    await using ahead = await load(native);
    const alone = await run(plain, { prompt: promptOf(3, 4), maxTokens: 30 });
    const guests: Guest[] = [
      { prompt: promptOf(2, 1), maxTokens: 60, comesAfter: 0 },
      { prompt: promptOf(3, 2), maxTokens: 40, comesAfter: 0, leavesAfter: 17 },
      {
        prompt: promptOf(3, 4),
        maxTokens: 30,
        comesAfter: 5,
        sampling: { stopIds: [alone.ids[12]] },
      },
      {
        prompt: promptOf(7, 3),
        maxTokens: 25,
        comesAfter: 30,
        sampling: { temperature: 0.9, seed: 5n, topLogprobs: 2 },
      },
      {
        prompt: promptOf(1, 9),
        maxTokens: 8,
        comesAfter: 40,
        sampling: { repetitionPenalty: 1.3, minTokens: 4 },
      },
      { prompt: promptOf(20, 6), maxTokens: 33, comesAfter: 60 },
    ];
    const expected = await serve(plain, guests);
    process.env.QUETZAL_FAKE_CUDA_LAZY = "2";
    const trace = join(folder, "guests.txt");
    process.env.QUETZAL_FAKE_CUDA_TRACE = trace;
    deepEqual(await serve(ahead, guests), expected);
    ok(expected[2].length <= 12, "nobody stopped");
    const early = launchesBeforeRead(trace).filter((count) => count > 0).length;
    ok(early > 20, `only ${early} steps were queued ahead`);
    equal(ahead.status().blocksFree, 40);
  },
  120_000,
);

/** For each step, how many later ones were launched before its tokens were read. */
function launchesBeforeRead(trace: string): number[] {
  const later: number[] = [];
  let launched = 0;
  for (const line of readFileSync(trace, "utf8").trim().split("\n")) {
    if (line === "launch") launched++;
    else later.push(launched - later.length - 1);
  }
  return later;
}

test(
  "a step is launched before the tokens of the one before are read",
  async () => {
    await using engine = await load(native);
    process.env.QUETZAL_FAKE_CUDA_LAZY = "200";
    const trace = join(folder, "trace.txt");
    process.env.QUETZAL_FAKE_CUDA_TRACE = trace;
    await run(engine, { prompt: promptOf(3), maxTokens: 12 });
    // The prompt's step is read first; so is the one that is known to be the last.
    deepEqual(launchesBeforeRead(trace), [0, ...new Array(10).fill(1), 0]);
  },
  60_000,
);

test("a device lost under two steps ends every sequence once", async () => {
  const warnings: string[] = [];
  await using engine = await load(
    native,
    (message) => warnings.push(message),
  );
  process.env.QUETZAL_FAKE_CUDA_LAZY = "5";
  const { signal } = new AbortController();
  let count = 0;
  await rejects(async () => {
    const events = engine.generate(
      spec({ prompt: promptOf(3), maxTokens: 60 }),
      { signal },
    );
    for await (const event of events) {
      if (event.kind === "tokens" && ++count === 8) {
        process.env.QUETZAL_FAKE_CUDA_LOST = "1";
      }
    }
  }, { code: 14 });
  deepEqual(warnings, ["A step of 1 sequences failed"]);
  equal(engine.status().blocksFree, 40);
}, 60_000);
