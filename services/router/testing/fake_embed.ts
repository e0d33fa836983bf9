import {
  type CallContext,
  type RpcService,
  unary,
} from "../../../lib/rpc/mod.ts";
import {
  type EmbedRunRequest,
  type EmbedRunResponse,
  EmbedService,
} from "../../../proto/gen/quetzal/v1/embed.ts";

/** What a fake worker answers; it may throw, wait, or kill its server first. */
export type EmbedScript = (
  request: EmbedRunRequest,
  call: CallContext,
) => EmbedRunResponse | Promise<EmbedRunResponse>;

export function fakeEmbedService(script: EmbedScript): RpcService {
  return {
    name: "quetzal.v1.Embed",
    definition: EmbedService,
    implementation: {
      run: unary<EmbedRunRequest, EmbedRunResponse>(async (request, call) =>
        await script(request, call)
      ),
    },
  };
}

/** Vectors that tell their prompts apart, not of length 1. */
export function vectorsOf(
  { prompts }: EmbedRunRequest,
  hiddenSize: number,
): EmbedRunResponse {
  return {
    vectors: prompts.map(({ ids }) => ({
      values: rawVector(ids, hiddenSize),
      cachedTokens: 1,
      computedTokens: ids.length - 1,
      queueUs: 1n,
      computeUs: 2n,
    })),
  };
}

/** f32 [hiddenSize], a function of all ids */
export function rawVector(
  ids: readonly number[],
  hiddenSize: number,
): number[] {
  const seed = ids.reduce((hash, id) => (hash * 31 + id) % 9_973, 7);
  return Array.from(
    { length: hiddenSize },
    (_, i) => Math.fround(3 * Math.sin(seed + i)),
  );
}
