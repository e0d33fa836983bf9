/** Short forms for tests: specs with everything off, and events folded up. */
import { greedy } from "../greedy.ts";
import { StepEngine, type StepEngineOptions } from "../engine.ts";
import type {
  Engine,
  EngineToken,
  KvFetcher,
  Sampling,
  SequenceEvent,
  SequenceSpec,
} from "../types.ts";
import { toyHiddenSize, ToyModel, type ToyOptions } from "./toy_native.ts";

export { greedy };

export interface SpecParts {
  prompt: ArrayLike<number>;
  emitted?: ArrayLike<number>;
  maxTokens?: number;
  sampling?: Partial<Sampling>;
  requestId?: string;
}

export function spec(parts: SpecParts): SequenceSpec {
  return {
    requestId: parts.requestId ?? "s",
    promptIds: Int32Array.from(parts.prompt),
    emittedIds: Int32Array.from(parts.emitted ?? []),
    maxTokens: parts.maxTokens ?? 16,
    sampling: { ...greedy, ...parts.sampling },
  };
}

/** `count` token ids below `vocabSize`, the same for the same seed. */
export function promptOf(count: number, seed = 1, vocabSize = 97): Int32Array {
  return Int32Array.from(
    { length: count },
    (_, i) => Math.abs((seed * 7919 + i * 104729) ^ (i * i * seed)) % vocabSize,
  );
}

export type ToyEngineOptions =
  & Partial<Omit<StepEngineOptions, "model">>
  & Omit<ToyOptions, "kvBlocks">;

export function createToyEngine(options: ToyEngineOptions = {}) {
  const kvBlocks = options.kvBlocks ?? 64;
  const model = new ToyModel({ ...options, kvBlocks });
  const engine = new StepEngine({
    fingerprint: "toy",
    kvType: "f16",
    contextLength: 512,
    vocabSize: options.vocabSize ?? 97,
    hiddenSize: toyHiddenSize,
    layers: 1,
    rowsMax: 32,
    runningMax: 8,
    waitingMax: 64,
    now: () => performance.now(),
    onWarning: () => {},
    ...options,
    model,
    kvBlocks,
  });
  return { engine, model };
}

export interface Outcome {
  readonly ids: readonly number[];
  readonly tokens: readonly EngineToken[];
  readonly started: Extract<SequenceEvent, { kind: "started" }>;
  readonly finished: Extract<SequenceEvent, { kind: "finished" }>;
}

/** Runs a sequence to its end. */
export async function run(
  engine: Engine,
  parts: SpecParts,
  options: { signal?: AbortSignal; fetchKv?: KvFetcher } = {},
): Promise<Outcome> {
  const signal = options.signal ?? new AbortController().signal;
  const tokens: EngineToken[] = [];
  let started: Outcome["started"] | undefined;
  let finished: Outcome["finished"] | undefined;
  for await (
    const event of engine.generate(spec(parts), { ...options, signal })
  ) {
    if (event.kind === "started") started = event;
    else if (event.kind === "tokens") tokens.push(...event.tokens);
    else finished = event;
  }
  return {
    ids: tokens.map(({ id }) => id),
    tokens,
    started: started!,
    finished: finished!,
  };
}
