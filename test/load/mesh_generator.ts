import { callStream, connect } from "../../lib/rpc/mod.ts";
import {
  GenerateRequest,
  InferenceClient,
} from "../../proto/gen/quetzal/v1/inference.ts";
import type { Generator } from "./generator.ts";

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
