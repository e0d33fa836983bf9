/** Turns what a request says into what an engine takes, and refuses the rest by field. */
import {
  Provenance,
  type SamplingParams,
  type StreamError,
  type Token,
} from "../../proto/gen/quetzal/v1/common.ts";
import { topLogprobsMax } from "../engine/native.ts";
import type { EngineToken, Sampling } from "../engine/types.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { toStreamError } from "../rpc/mod.ts";
import type { ServedModel } from "./served_models.ts";

/** Checks that all ids are in the model's vocabulary. */
export function toTokenIds(
  ids: readonly number[],
  { engine: { vocabSize } }: ServedModel,
  field: string,
): Int32Array {
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] >= 0 && ids[i] < vocabSize) continue;
    refuse(`${field}[${i}]`, `an id in 0..${vocabSize - 1}`, ids[i]);
  }
  return Int32Array.from(ids);
}

/** Normalized sampling; an absent message means the proto's defaults: greedy, no limits. */
export function toSampling(
  params: SamplingParams | undefined,
  model: ServedModel,
): Sampling {
  const { engine: { vocabSize }, endIds } = model;
  const number = (
    name: keyof SamplingParams,
    range: NumberRange,
    fallback = 0,
  ) =>
    checkedNumber(
      params?.[name] as number ?? fallback,
      `sampling.${snake(name)}`,
      range,
    );
  const integer = (name: keyof SamplingParams, max = 2 ** 31 - 1) =>
    number(name, { min: 0, max });

  return {
    temperature: number("temperature", { min: 0, max: 100 }),
    topK: integer("topK"),
    topP: number("topP", { above: 0, max: 1 }, 1),
    minP: number("minP", { min: 0, max: 1 }),
    seed: params?.seed ?? 0n,
    presencePenalty: number("presencePenalty", { min: -2, max: 2 }),
    frequencyPenalty: number("frequencyPenalty", { min: -2, max: 2 }),
    repetitionPenalty: number("repetitionPenalty", { above: 0, max: 100 }, 1),
    logitBias: toLogitBias(params?.logitBias ?? {}, vocabSize),
    stopIds: toStopIds(params, model, endIds),
    minTokens: integer("minTokens"),
    topLogprobs: params?.topLogprobs === undefined
      ? undefined
      : integer("topLogprobs", topLogprobsMax),
  };
}

interface NumberRange {
  readonly min?: number;
  /** Bound that is not itself allowed. */
  readonly above?: number;
  readonly max: number;
}

function checkedNumber(
  value: number,
  field: string,
  range: NumberRange,
): number {
  const { min, above, max } = range;
  const inside = value <= max &&
    (above === undefined ? value >= min! : value > above);
  // NaN fails both comparisons.
  if (inside) return value;
  const needed = above === undefined
    ? `${min}..${max}`
    : `above ${above}, up to ${max}`;
  return refuse(field, needed, value);
}

function toLogitBias(
  bias: SamplingParams["logitBias"],
  vocabSize: number,
): ReadonlyMap<number, number> {
  const entries = new Map<number, number>();
  for (const [key, value] of Object.entries(bias)) {
    const id = Number(key);
    if (!(id >= 0 && id < vocabSize)) {
      refuse("sampling.logit_bias", `ids in 0..${vocabSize - 1}`, id);
    }
    // Minus infinity forbids a token; plus infinity would leave no distribution.
    if (!(value < Infinity)) {
      refuse(`sampling.logit_bias[${id}]`, "a number below infinity", value);
    }
    entries.set(id, value);
  }
  return entries;
}

function toStopIds(
  params: SamplingParams | undefined,
  model: ServedModel,
  endIds: readonly number[],
): readonly number[] {
  const wanted = toTokenIds(
    params?.stopTokenIds ?? [],
    model,
    "sampling.stop_token_ids",
  );
  return [...new Set([...wanted, ...(params?.ignoreEos ? [] : endIds)])];
}

/** Refuses what the model's context cannot hold. */
export function requireFits(tokenCount: number, { engine }: ServedModel): void {
  if (tokenCount <= engine.contextLength) return;
  refuse(
    "prompt_ids",
    `${engine.contextLength} ids at most, emitted ones included`,
    tokenCount,
  );
}

/** A failure as the last message of a stream; engines name fields in camel case. */
export function inBandError(reason: unknown): StreamError {
  const error = toStreamError(reason);
  return error.field === "" ? error : { ...error, field: snake(error.field) };
}

/** Throws `invalidArgument` for a field. */
export function refuse(field: string, needed: string, found: unknown): never {
  throw new MeshError(
    Code.invalidArgument,
    `Cannot run the sequence: ${field} must be ${needed}, is ${found}`,
    { field },
  );
}

/** "topLogprobs" as requests write it: "top_logprobs". */
function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** A token on the wire. */
export function toProtoToken({ id, logprob, top }: EngineToken): Token {
  return {
    id,
    provenance: Provenance.PROVENANCE_PLAIN,
    logprob,
    // Read only by the encoder, right after this.
    top: top as Token["top"],
  };
}

/** A token from the wire. */
export function toEngineToken({ id, logprob, top }: Token): EngineToken {
  return { id, logprob, top };
}
