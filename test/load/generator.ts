/**
 * One way to get tokens for token ids, so that the engine in this process and
 * the mesh behind gRPC are driven by the very same code.
 */
import { createEngine } from "../../lib/engine/mod.ts";
import { greedy } from "../../lib/engine/testing/sequences.ts";
import type { Engine } from "../../lib/engine/types.ts";
import { callStream, connect } from "../../lib/rpc/mod.ts";
import {
  GenerateRequest,
  InferenceClient,
} from "../../proto/gen/quetzal/v1/inference.ts";
import { loadNative } from "../../kernels/addon/mod.ts";

export interface Generator extends AsyncDisposable {
  /** Yields how many tokens each message brought. */
  generate(promptIds: Int32Array, maxTokens: number): AsyncIterable<number>;
}

export async function engineGenerator(
  path: string,
  options: { threads: number; runningMax?: number; kvBlocks?: number },
): Promise<Generator & { engine: Engine }> {
  const engine = await createEngine({ path, native: loadNative(), ...options });
  let requests = 0;
  return {
    engine,
    async *generate(promptIds, maxTokens) {
      const spec = {
        requestId: `bench-${requests++}`,
        promptIds,
        emittedIds: new Int32Array(),
        sampling: greedy,
        maxTokens,
      };
      const { signal } = new AbortController();
      for await (const event of engine.generate(spec, { signal })) {
        if (event.kind === "tokens") yield event.tokens.length;
      }
    },
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  };
}

/** `metadata` goes with every call. */
export function meshGenerator(
  address: string,
  model: string,
  metadata: () => Record<string, string> = () => ({}),
): Generator {
  const client = connect(InferenceClient, address);
  const method = client.generate.bind(client);
  return {
    async *generate(promptIds, maxTokens) {
      const request = GenerateRequest.fromPartial({
        model,
        input: { $case: "tokens", value: { ids: Array.from(promptIds) } },
        maxTokens,
        sampling: { ignoreEos: true },
      });
      for await (
        const { event } of callStream(method, request, {
          metadata: metadata(),
        })
      ) {
        if (event?.$case === "delta" && event.value.tokens.length > 0) {
          yield event.value.tokens.length;
        }
        if (event?.$case === "error") throw new Error(event.value.message);
      }
    },
    [Symbol.asyncDispose]: () => Promise.resolve(client.close()),
  };
}
