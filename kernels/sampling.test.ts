import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { beforeAll, describe, test } from "vitest";
import {
  type Native,
  type NativeModel,
  topLogprobsMax,
} from "../lib/engine/native.ts";
import { ProgramBuilder, RowKind } from "../lib/engine/program.ts";
import { makeBatch, type TestSampling } from "./testing/batches.ts";
import { testNative, withModel } from "./testing/models.ts";
import { philox4x32, sampleTwin, uniformOf } from "./testing/sampling_twin.ts";
import { Random, WeightFile } from "./testing/weights.ts";

/** The embedding table holds the logits: token t samples from row t. */
let native: Native;
beforeAll(async () => {
  native = await testNative();
});

async function onEachIsa(
  rows: readonly Float32Array[],
  use: (model: NativeModel) => Promise<void>,
): Promise<void> {
  const vocab = rows[0].length;
  using file = new WeightFile();
  const builder = new ProgramBuilder();
  const x = builder.tensor(RowKind.rows, vocab),
    logits = builder.tensor(RowKind.outRows, vocab);
  builder.embed(
    x,
    file.addFloats(
      rows.length,
      vocab,
      Float32Array.from(rows.flatMap((row) => [...row])),
    ),
  );
  builder.gather(logits, x);
  builder.sample(logits);
  file.write();
  for (const isa of native.isasSupported) {
    await withModel(native, file, {
      isa,
      program: builder.build(),
      rowsMax: 100,
    }, use);
  }
}

/** Samples row `row` once per entry of `all`. */
async function sampleMany(
  model: NativeModel,
  row: number,
  all: readonly TestSampling[],
) {
  const tokens: number[] = [];
  for (let at = 0; at < all.length; at += 100) {
    const some = all.slice(at, at + 100);
    const batch = makeBatch([{ tokenIds: some.map(() => row) }], {
      sampling: some,
    });
    tokens.push(...(await model.step(batch)).tokens);
  }
  return tokens;
}

describe("philox", () => {
  test("philox4x32() gives the published vectors of Random123", () => {
    const hex = (words: readonly bigint[]) =>
      words.map((word) => word.toString(16).padStart(8, "0"));
    const ones = 0xffffffffn;
    deepEqual(hex(philox4x32([0n, 0n, 0n, 0n], [0n, 0n])), [
      "6627e8d5",
      "e169c58d",
      "bc57ac4c",
      "9b00dbd8",
    ]);
    deepEqual(hex(philox4x32([ones, ones, ones, ones], [ones, ones])), [
      "408f276d",
      "41c83b0e",
      "a20bc7c6",
      "6d5451fd",
    ]);
  });

  test("a draw lands where the generator says, for wide seeds and draw indices", async () => {
    // 1000 equal tokens: the chosen one is floor(u * 1000).
    await onEachIsa([new Float32Array(1000)], async (model) => {
      const random = new Random(3);
      const all = Array.from({ length: 400 }, () => ({
        temperature: 1,
        seed: BigInt(random.below(2 ** 32)) << 32n |
          BigInt(random.below(2 ** 32)),
        draw: random.below(2 ** 31),
      }));
      const found = await sampleMany(model, 0, all);
      deepEqual(
        found,
        all.map(({ seed, draw }) => Math.floor(uniformOf(seed, draw) * 1000)),
      );
    });
  });
});

describe("choice", () => {
  const random = new Random(21);
  const vocab = 3003;
  const rows = [
    random.floats(vocab, 1),
    random.floats(vocab, 4),
    random.floats(vocab, 12),
    // Few distinct values: ties everywhere.
    random.floats(vocab, 3).map(Math.round),
  ];
  const pick = <T>(...choices: T[]) => choices[random.below(choices.length)];
  const someSampling = (): TestSampling => ({
    temperature: pick(0, 0.3, 1, 1.7),
    topK: pick(0, 0, 1, 5, 40, 2000, 100_000),
    topP: pick(1, 1, 0.1, 0.5, 0.9, 0.999),
    minP: pick(0, 0, 0.001, 0.05, 0.5, 1),
    presence: pick(0, 0.7, -1),
    frequency: pick(0, 0.3, -0.2),
    repetition: pick(1, 1.3, 0.8),
    seed: BigInt(random.below(2 ** 32)) << 20n,
    draw: random.below(1000),
    history: Array.from(
      random.shuffled(vocab).subarray(0, pick(0, 10, 500)),
      (id) => [id, random.below(3)] as const,
    ),
    bias: pick([], [[5, 20], [6, -Infinity], [7, 3.5]] as const),
  });

  test("agrees with float64 over random parameters, where float64 is sure", async () => {
    const all = Array.from(
      { length: 300 },
      (_, i) => ({ row: i % rows.length, sampling: someSampling() }),
    );
    const twins = all.map(({ row, sampling }) =>
      sampleTwin(rows[row], sampling)
    );
    let compared = 0;
    await onEachIsa(rows, async (model) => {
      for (const [i, { row, sampling }] of all.entries()) {
        const batch = makeBatch([{ tokenIds: [row] }], { sampling });
        const output = await model.step(batch);
        const label = `${model.isa} case ${i} ${
          JSON.stringify({ ...sampling, seed: `${sampling.seed}`, history: 0 })
        }`;
        if (twins[i].margin > 1e-5) {
          equal(output.tokens[0], twins[i].token, label);
          ok(Math.abs(output.logprobs[0] - twins[i].logprob) < 2e-5, label);
          compared++;
        }
      }
    });
    ok(
      compared > 250 * native.isasSupported.length,
      `only ${compared} cases were sure`,
    );
  });

  test("top_p that keeps thousands agrees with float64, ties at its edge too", async () => {
    const count = 30_000;
    const flat = [random.floats(count, 0.3), random.floats(count, 0.5)];
    flat[1] = flat[1].map((logit) => Math.round(logit * 8) / 8);
    const all = Array.from({ length: 16 }, (_, i) => ({
      temperature: 0.9,
      topP: pick(0.3, 0.6, 0.9),
      minP: pick(0, 0.02),
      seed: BigInt(i * 7919 + 3),
    }));
    let compared = 0;
    await onEachIsa(flat, async (model) => {
      for (const row of [0, 1]) {
        const tokens = await sampleMany(model, row, all);
        all.forEach((sampling, i) => {
          const twin = sampleTwin(flat[row], sampling);
          if (twin.margin < 1e-7) return;
          ok(twin.kept.length > 4096);
          equal(tokens[i], twin.token, `${model.isa} row ${row} case ${i}`);
          compared++;
        });
      }
    });
    ok(compared > 20 * native.isasSupported.length, `${compared} were sure`);
  });

  test("temperature 0 takes the first of equal bests", async () => {
    const logits = new Float32Array(vocab).fill(-1);
    logits.set([2, 2, 2], 1500);
    await onEachIsa([logits], async (model) => {
      deepEqual(
        await sampleMany(model, 0, [{}, { bias: [[1500, -Infinity]] }]),
        [1500, 1501],
      );
    });
  });

  test("top alternatives are those of the raw logits, best first, -1 beyond", async () => {
    await onEachIsa(rows, async (model) => {
      const batch = makeBatch([{ tokenIds: [1, 3, 2, 0] }], {
        sampling: [{ topLogprobs: 20, bias: [[9, 50]] }, { topLogprobs: 5 }, {
          topLogprobs: 0,
        }, {}],
      });
      const output = await model.step(batch);
      for (
        const [at, [row, count]] of [[1, 20], [3, 5], [2, 0], [0, 0]].entries()
      ) {
        const ranked = Array.from(rows[row], (logit, id) => ({ logit, id }))
          .sort((a, b) => b.logit - a.logit || a.id - b.id).slice(0, count);
        const ids = [
          ...ranked.map(({ id }) => id),
          ...Array(topLogprobsMax - count).fill(-1),
        ];
        const from = at * topLogprobsMax;
        deepEqual(
          [...output.topIds.subarray(from, from + topLogprobsMax)],
          ids,
        );
        const total = rows[row].reduce((sum, x) => sum + Math.exp(x), 0);
        ranked.forEach(({ logit }, i) =>
          ok(
            Math.abs(output.topLogprobs[from + i] - (logit - Math.log(total))) <
              2e-5,
          )
        );
      }
      equal(output.tokens[0], 9);
    });
  });

  test("draws follow the distribution (chi-square, fixed seeds)", async () => {
    const logits = Float32Array.from([0.5, -1, 2, 0, 1.2, -0.3, 0.9, -2]);
    const temperature = 1.3, draws = 20_000;
    const weights = [...logits].map((logit) => Math.exp(logit / temperature));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    await onEachIsa([logits], async (model) => {
      const counts = new Array(8).fill(0);
      const all = Array.from(
        { length: draws },
        (_, draw) => ({ temperature, seed: 77n, draw }),
      );
      for (const token of await sampleMany(model, 0, all)) counts[token]++;
      const chi = counts.reduce((sum, count, i) => {
        const expected = draws * weights[i] / total;
        return sum + (count - expected) ** 2 / expected;
      }, 0);
      // 7 degrees of freedom: above 24.3 happens once in a thousand.
      ok(chi < 24.3, `${model.isa}: chi-square ${chi} of counts ${counts}`);
    });
  });

  test("logits that are not finite, or all forbidden, reject and name the row", async () => {
    const good = random.floats(40),
      poisoned = random.floats(40),
      endless = random.floats(40);
    poisoned[39] = NaN;
    endless[3] = -Infinity;
    await onEachIsa([good, poisoned, endless], async (model) => {
      await rejects(
        model.step(makeBatch([{ tokenIds: [0, 1] }])),
        /out row 1 .*not finite/,
      );
      await rejects(
        model.step(makeBatch([{ tokenIds: [2] }])),
        /out row 0 .*not finite/,
      );
      const bias = Array.from(
        { length: 40 },
        (_, id) => [id, -Infinity] as const,
      );
      await rejects(
        model.step(makeBatch([{ tokenIds: [0] }], { sampling: { bias } })),
        /all tokens are forbidden/,
      );
      equal(
        (await model.step(makeBatch([{ tokenIds: [0] }]))).tokens.length,
        1,
      );
    });
  });
});
