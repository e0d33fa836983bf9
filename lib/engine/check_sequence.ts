/** What a sequence must be before it may wait for a step. */
import { Code, MeshError } from "../errors/mesh_error.ts";
import { blockTokens } from "./block_hash.ts";
import { topLogprobsMax } from "./native.ts";
import type { Sampling, SequenceSpec } from "./types.ts";

export interface SequenceLimits {
  readonly contextLength: number;
  readonly vocabSize: number;
  readonly blocksTotal: number;
}

/** Throws `MeshError(invalidArgument)` that names the field at fault. */
export function checkSequence(
  spec: SequenceSpec,
  limits: SequenceLimits,
): void {
  checkIds(spec, limits);
  checkSampling(spec, limits.vocabSize);
}

/** Throws when `tokens` tokens need more blocks than the whole pool has. */
export function checkFits(
  spec: SequenceSpec,
  tokens: number,
  { blocksTotal }: SequenceLimits,
): void {
  const needed = Math.ceil(tokens / blockTokens);
  if (needed <= blocksTotal) return;
  throw refused(
    spec,
    "promptIds",
    `prompt and output of ${tokens} tokens need ${needed} KV blocks, the pool has ${blocksTotal}`,
  );
}

function checkIds(spec: SequenceSpec, limits: SequenceLimits): void {
  const { promptIds, emittedIds, maxTokens } = spec;
  if (promptIds.length === 0) {
    throw refused(spec, "promptIds", "needs at least 1 token, found 0");
  }
  const count = promptIds.length + emittedIds.length;
  if (count > limits.contextLength) {
    throw refused(
      spec,
      "promptIds",
      `the context holds ${limits.contextLength} tokens, found ${count}`,
    );
  }
  checkVocabulary(spec, "promptIds", limits.vocabSize);
  checkVocabulary(spec, "emittedIds", limits.vocabSize);
  if (!Number.isInteger(maxTokens) || maxTokens < emittedIds.length + 1) {
    throw refused(
      spec,
      "maxTokens",
      `needs an integer of at least ${
        emittedIds.length + 1
      }, found ${maxTokens}`,
    );
  }
}

function checkVocabulary(
  spec: SequenceSpec,
  field: "promptIds" | "emittedIds",
  vocabSize: number,
): void {
  const ids = spec[field];
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] >= 0 && ids[i] < vocabSize) continue;
    throw refused(
      spec,
      `${field}[${i}]`,
      `needs a token id below ${vocabSize}, found ${ids[i]}`,
    );
  }
}

function checkSampling(spec: SequenceSpec, vocabSize: number): void {
  const { sampling } = spec;
  for (const [field, low, high] of ranges) {
    const value = sampling[field];
    if (value >= low && value <= high) continue;
    throw refused(
      spec,
      `sampling.${field}`,
      `needs ${low}..${high}, found ${value}`,
    );
  }
  for (const field of ["topK", "minTokens"] as const) {
    const value = sampling[field];
    if (Number.isInteger(value) && value >= 0) continue;
    throw refused(
      spec,
      `sampling.${field}`,
      `needs an integer >= 0, found ${value}`,
    );
  }
  if (
    !(sampling.repetitionPenalty > 0 && sampling.repetitionPenalty < Infinity)
  ) {
    const found = sampling.repetitionPenalty;
    throw refused(
      spec,
      "sampling.repetitionPenalty",
      `needs a number > 0, found ${found}`,
    );
  }
  const top = sampling.topLogprobs;
  if (
    top !== undefined &&
    !(Number.isInteger(top) && top >= 0 && top <= topLogprobsMax)
  ) {
    throw refused(
      spec,
      "sampling.topLogprobs",
      `needs 0..${topLogprobsMax}, found ${top}`,
    );
  }
  checkTokenChoices(spec, vocabSize);
}

const ranges:
  readonly (readonly [keyof Sampling & NumberField, number, number])[] = [
    ["temperature", 0, 100],
    ["topP", 0, 1],
    ["minP", 0, 1],
    ["presencePenalty", -2, 2],
    ["frequencyPenalty", -2, 2],
  ];

type NumberField =
  | "temperature"
  | "topP"
  | "minP"
  | "presencePenalty"
  | "frequencyPenalty";

function checkTokenChoices(spec: SequenceSpec, vocabSize: number): void {
  const inside = (id: number) =>
    Number.isInteger(id) && id >= 0 && id < vocabSize;
  for (const [id, bias] of spec.sampling.logitBias) {
    if (inside(id) && (Number.isFinite(bias) || bias === -Infinity)) continue;
    throw refused(
      spec,
      `sampling.logitBias[${id}]`,
      `needs a token id below ${vocabSize} with a finite bias, found ${bias}`,
    );
  }
  const outside = spec.sampling.stopIds.find((id) => !inside(id));
  if (outside === undefined) return;
  throw refused(
    spec,
    "sampling.stopIds",
    `needs token ids below ${vocabSize}, found ${outside}`,
  );
}

function refused(spec: SequenceSpec, field: string, detail: string): MeshError {
  return new MeshError(
    Code.invalidArgument,
    `Cannot run sequence "${spec.requestId}": ${field}: ${detail}`,
    { field },
  );
}
