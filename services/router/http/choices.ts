import type { Context } from "@opentelemetry/api";
import { MeshError } from "../../../lib/errors/mesh_error.ts";
import type {
  AnswerDelta,
  GenerationRequest,
  GenerationResult,
  Inference,
  RequestScope,
} from "../core/mod.ts";

/** The sequences of a request: `n` for each prompt, sampled with seed, seed + 1, … */
export function choicesOf(
  request: GenerationRequest,
  n: number,
): GenerationRequest[] {
  if (n === 1) return [request];
  return Array.from({ length: n }, (_, i) => ({
    ...request,
    requestId: `${request.requestId}-${i}`,
    sampling: {
      ...request.sampling,
      seed: BigInt.asUintN(64, request.sampling.seed + BigInt(i)),
    },
  }));
}

export interface RunChoicesOptions {
  readonly inference: Inference;
  readonly scope: RequestScope;
  readonly trace: Context;
  /** A piece of choice `index`. */
  onDelta(index: number, delta: AnswerDelta): Promise<void> | undefined;
  onEnd?(index: number, result: GenerationResult): Promise<void> | undefined;
}

/** Runs all of them at once; the first failure ends the others and is thrown. */
export async function runChoices(
  choices: readonly GenerationRequest[],
  { inference, scope, trace, onDelta, onEnd }: RunChoicesOptions,
): Promise<GenerationResult[]> {
  let failure: unknown;
  const runs = choices.map(async (request, index) => {
    try {
      const sink = { write: (delta: AnswerDelta) => onDelta(index, delta) };
      const result = await inference.generate(request, sink, {
        scope,
        parent: trace,
      });
      await onEnd?.(index, result);
      return result;
    } catch (reason) {
      failure ??= reason;
      scope.abort(MeshError.from(reason));
      throw reason;
    }
  });
  const settled = await Promise.allSettled(runs);
  if (failure !== undefined) throw failure;
  return settled.map((one) =>
    (one as PromiseFulfilledResult<GenerationResult>).value
  );
}
