/**
 * Sampling in float64, straight from its definition: sort everything, cut, draw.
 * Philox4x32-10 in BigInt arithmetic, checked against the published vectors.
 */
import type { TestSampling } from "./batches.ts";

const mask = 0xffffffffn;

export function philox4x32(
  counter: readonly bigint[],
  key: readonly bigint[],
): readonly bigint[] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0, p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [
      (p1 >> 32n) ^ c1 ^ k0,
      p1 & mask,
      (p0 >> 32n) ^ c3 ^ k1,
      p0 & mask,
    ];
    k0 = (k0 + 0x9e3779b9n) & mask;
    k1 = (k1 + 0xbb67ae85n) & mask;
  }
  return [c0, c1, c2, c3];
}

/** Uniform in [0, 1): the top 53 bits of words 0 and 1. */
export function uniformOf(seed: bigint, draw: number): number {
  const words = philox4x32([BigInt(draw), 0n, 0n, 0n], [
    seed & mask,
    seed >> 32n,
  ]);
  return Number(((words[0] >> 5n) << 26n) | (words[1] >> 6n)) / 2 ** 53;
}

/** `margin`: how far, in probability, the draw was from choosing another token. */
export interface TwinChoice {
  readonly token: number;
  readonly logprob: number;
  readonly margin: number;
  readonly kept: readonly number[];
}

export function sampleTwin(
  logits: ArrayLike<number>,
  sampling: TestSampling,
): TwinChoice {
  const adjusted = adjust(logits, sampling);
  const rawMax = Math.max(...Array.from(logits));
  const logTotal = rawMax +
    Math.log(
      Array.from(logits).reduce((sum, x) => sum + Math.exp(x - rawMax), 0),
    );
  const ranked = adjusted.map((logit, id) => ({ logit, id }))
    .sort((a, b) => b.logit - a.logit || a.id - b.id);
  const temperature = sampling.temperature ?? 0;
  const finish = (token: number, margin: number, kept: number[]) => ({
    token,
    margin,
    kept,
    logprob: logits[token] - logTotal,
  });
  if (temperature === 0) return finish(ranked[0].id, 1, [ranked[0].id]);

  const best = ranked[0].logit;
  let margin = 1;
  let kept = ranked.map(({ id, logit }) => ({
    id,
    p: Math.exp((logit - best) / temperature),
  }));
  const minP = sampling.minP ?? 0;
  if (minP > 0) {
    margin = Math.min(
      margin,
      ...kept.slice(1).map(({ p }) => Math.abs(p - minP)),
    );
    kept = kept.filter(({ p }) => p >= minP);
  }
  if (sampling.topK) kept = kept.slice(0, sampling.topK);
  if ((sampling.topP ?? 1) < 1) {
    const total = kept.reduce((sum, { p }) => sum + p, 0);
    let mass = 0;
    const cut = kept.findIndex(({ p }) => {
      mass += p;
      margin = Math.min(margin, Math.abs(mass / total - sampling.topP!));
      return mass >= sampling.topP! * total;
    });
    kept = kept.slice(0, cut + 1);
  }
  kept.sort((a, b) => a.id - b.id);
  const total = kept.reduce((sum, { p }) => sum + p, 0);
  const target = uniformOf(sampling.seed ?? 0n, sampling.draw ?? 0) * total;
  let mass = 0;
  const chosen = kept.find(({ p }) => {
    mass += p;
    margin = Math.min(margin, Math.abs(mass - target) / total);
    return mass > target;
  })!;
  return finish(chosen.id, margin, kept.map(({ id }) => id));
}

function adjust(logits: ArrayLike<number>, sampling: TestSampling): number[] {
  const adjusted = Array.from(logits);
  for (const [id, value] of sampling.bias ?? []) adjusted[id] += value;
  const { repetition = 1, presence = 0, frequency = 0 } = sampling;
  for (const [id, count] of sampling.history ?? []) {
    adjusted[id] = adjusted[id] > 0
      ? adjusted[id] / repetition
      : adjusted[id] * repetition;
    adjusted[id] -= frequency * count + (count > 0 ? presence : 0);
  }
  return adjusted;
}
