import { z } from "zod";
import {
  check,
  encodeChat,
  encodeIds,
  encodeText,
  text,
  tokenIds,
} from "../core/mod.ts";
import { chatMessages } from "./chat_schema.ts";
import type { Exchange } from "./exchange.ts";
import type { HttpOptions } from "./http_options.ts";
import { readJson } from "./json_body.ts";

const model = text.max(256).nullish().transform((value) => value ?? "");

const tokenizeText = z.strictObject({
  model,
  prompt: text,
  add_special_tokens: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
});

const tokenizeChat = z.strictObject({
  model,
  messages: chatMessages,
  add_generation_prompt: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
});

const detokenizeBody = z.strictObject({ model, tokens: tokenIds });

/** `POST /tokenize`, of a text or of a chat. */
export async function tokenize(
  exchange: Exchange,
  options: HttpOptions,
): Promise<Response> {
  const { inference } = options;
  const raw = await readJson(exchange.env.incoming, options.body);
  const chat = Object.hasOwn(raw, "messages")
    ? check(tokenizeChat, raw)
    : undefined;
  const plain = chat === undefined ? check(tokenizeText, raw) : undefined;
  const served = inference.catalog.resolve((chat ?? plain)!.model);
  const contextLength = inference.contextLength(served);
  const ids = chat !== undefined
    ? encodeChat(chat.messages, served, {
      addGenerationPrompt: chat.add_generation_prompt ?? true,
      contextLength,
      field: "messages",
    })
    : encodeText(plain!.prompt, served, {
      addSpecial: plain!.add_special_tokens ?? true,
      contextLength,
      field: "prompt",
    });
  const tokens = [...ids];
  return exchange.json({
    count: tokens.length,
    max_model_len: contextLength,
    tokens,
    token_strs: (chat ?? plain)!.return_token_strs
      ? tokens.map((id) => served.tokenizer.decode([id], { special: true }))
      : null,
  });
}

/** `POST /detokenize` */
export async function detokenize(
  exchange: Exchange,
  { inference, body: limits }: HttpOptions,
): Promise<Response> {
  const raw = await readJson(exchange.env.incoming, limits);
  const body = check(detokenizeBody, raw);
  const served = inference.catalog.resolve(body.model);
  const ids = encodeIds(body.tokens, served, {
    contextLength: inference.contextLength(served),
    field: "tokens",
  });
  return exchange.json({ prompt: served.tokenizer.decode(ids) });
}
