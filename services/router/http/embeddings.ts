import { check } from "../core/mod.ts";
import {
  embeddingInput,
  embeddingSchema,
  isInputList,
} from "./embedding_schema.ts";
import { type Exchange, watchClient } from "./exchange.ts";
import type { HttpOptions } from "./http_options.ts";
import { readJson } from "./json_body.ts";

/** `POST /v1/embeddings` */
export async function embeddings(
  exchange: Exchange,
  options: HttpOptions,
): Promise<Response> {
  const { inference } = options;
  const raw = await readJson(exchange.env.incoming, options.body);
  const body = check(embeddingSchema, raw);
  using scope = inference.open();
  using _client = watchClient(exchange, scope);
  const input = embeddingInput(body, { isList: isInputList(raw) });
  const request = inference.prepareEmbedding(
    input,
    `embd-${exchange.get("requestId")}`,
  );
  const { vectors, promptTokens, cachedTokens } = await inference.embed(
    request,
    { scope, parent: exchange.get("trace") },
  );
  const encode = body.encoding_format === "base64" ? toBase64 : asIs;
  return exchange.json({
    object: "list",
    data: vectors.map((values, index) => ({
      object: "embedding",
      index,
      embedding: encode(values),
    })),
    model: request.model.name,
    usage: {
      prompt_tokens: promptTokens,
      total_tokens: promptTokens,
      prompt_tokens_details: { cached_tokens: cachedTokens },
    },
  });
}

function asIs(values: readonly number[]): readonly number[] {
  return values;
}

/** f32, little-endian, as OpenAI's clients read it. */
function toBase64(values: readonly number[]): string {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => bytes.writeFloatLE(value, 4 * i));
  return bytes.toString("base64");
}
