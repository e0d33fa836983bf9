/** Answers over gRPC as token ids. */
import { callStream, connect } from "../../lib/rpc/mod.ts";
import {
  GenerateRequest,
  InferenceClient,
} from "../../proto/gen/quetzal/v1/inference.ts";

export interface IdsRequest {
  readonly model: string;
  readonly content: string;
  readonly maxTokens: number;
}

/** Greedy ids of one streamed answer; rejects when it ends in an error. */
export async function streamIds(
  address: string,
  { model, content, maxTokens }: IdsRequest,
): Promise<number[]> {
  const client = connect(InferenceClient, address);
  using _ = { [Symbol.dispose]: () => client.close() };
  const request = GenerateRequest.fromPartial({
    model,
    input: { $case: "chat", value: { messages: [{ role: "user", content }] } },
    sampling: { temperature: 0 },
    maxTokens,
  });
  const ids: number[] = [];
  let isFinished = false;
  for await (
    const { event } of callStream(client.generate.bind(client), request)
  ) {
    if (event?.$case === "delta") {
      ids.push(...event.value.tokens.map(({ id }) => id));
    } else if (event?.$case === "error") {
      throw new Error(`Cannot stream "${model}": ${event.value.message}`);
    } else if (event?.$case === "finished") isFinished = true;
  }
  if (!isFinished) {
    throw new Error(`Cannot stream "${model}": it ended after ${ids.length}`);
  }
  return ids;
}
