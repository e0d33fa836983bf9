import {
  type AnswerDelta,
  check,
  type GenerationRequest,
} from "../core/mod.ts";
import { type ChatBody, chatInput, chatSchema } from "./chat_schema.ts";
import { choicesOf, runChoices, type RunChoicesOptions } from "./choices.ts";
import { type Exchange, watchClient } from "./exchange.ts";
import type { HttpOptions } from "./http_options.ts";
import { readJson } from "./json_body.ts";
import { type ChatLogprob, chatLogprobs } from "./logprobs.ts";
import { streamEvents } from "./stream_events.ts";
import { usageOf } from "./usage.ts";

/** `POST /v1/chat/completions` */
export async function chatCompletions(
  exchange: Exchange,
  options: HttpOptions,
): Promise<Response> {
  const { inference } = options;
  const body = check(
    chatSchema,
    await readJson(exchange.env.incoming, options.body),
  );
  using scope = inference.open();
  using _client = watchClient(exchange, scope);
  const id = `chatcmpl-${exchange.get("requestId")}`;
  const request = inference.prepare(chatInput(body), id, body.n);
  const choices = choicesOf(request, body.n);
  const run = { inference, scope, trace: exchange.get("trace") };
  if (body.stream) {
    return await stream({ exchange, options, body, choices, run });
  }

  const answers = choices.map(() => ({
    text: "",
    logprobs: [] as ChatLogprob[],
  }));
  const results = await runChoices(choices, {
    ...run,
    onDelta(index, { text, tokens }) {
      const answer = answers[index];
      answer.text += text;
      if (body.logprobs) {
        answer.logprobs.push(...chatLogprobs(tokens, request.model.tokenizer));
      }
      return undefined;
    },
  });
  return exchange.json({
    id,
    object: "chat.completion",
    created: nowS(),
    model: request.model.name,
    choices: results.map(({ reason }, index) => ({
      index,
      message: {
        role: "assistant",
        content: answers[index].text,
        refusal: null,
      },
      logprobs: body.logprobs
        ? { content: answers[index].logprobs, refusal: null }
        : null,
      finish_reason: reason,
    })),
    usage: usageOf([results]),
  });
}

interface StreamParts {
  readonly exchange: Exchange;
  readonly options: HttpOptions;
  readonly body: ChatBody;
  readonly choices: readonly GenerationRequest[];
  readonly run: Pick<RunChoicesOptions, "inference" | "scope" | "trace">;
}

function stream(
  { exchange, options, body, choices, run }: StreamParts,
): Promise<Response> {
  const { requestId: id, model } = choices[0];
  const chunks = choices.map((_, index) =>
    new ChatChunks({
      id: body.n === 1 ? id : id.replace(/-0$/, ""),
      model: model.name,
      index,
      body,
    })
  );
  return streamEvents(exchange, options, async (sse) => {
    const results = await runChoices(choices, {
      ...run,
      onDelta: (index, delta) =>
        sse.write(
          chunks[index].piece(delta, () =>
            chatLogprobs(delta.tokens, model.tokenizer)),
        ),
      onEnd: (index, { reason }) => sse.write(chunks[index].finish(reason)),
    });
    if (body.stream_options?.include_usage) {
      sse.write(chunks[0].usage(usageOf([results])));
    }
  });
}

/**
 * The events of one choice. Everything that stays the same is serialized once:
 * per token only the text is.
 */
class ChatChunks {
  readonly #head: string;
  readonly #index: number;
  readonly #tail: string;
  readonly #logprobs: boolean;
  #begun = false;

  constructor({ id, model, index, body }: {
    id: string;
    model: string;
    index: number;
    body: ChatBody;
  }) {
    const constant = {
      id,
      object: "chat.completion.chunk",
      created: nowS(),
      model,
    };
    this.#head = `data: ${JSON.stringify(constant).slice(0, -1)},"choices":[`;
    this.#index = index;
    this.#tail = body.stream_options?.include_usage
      ? '],"usage":null}\n\n'
      : "]}\n\n";
    this.#logprobs = body.logprobs;
  }

  piece({ text }: AnswerDelta, logprobs: () => unknown): string {
    const delta = `{"content":${JSON.stringify(text)}}`;
    const extra = this.#logprobs
      ? `{"content":${JSON.stringify(logprobs())},"refusal":null}`
      : "null";
    return this.#role() + this.#event(delta, extra, "null");
  }

  finish(reason: string): string {
    return this.#role() + this.#event("{}", "null", `"${reason}"`);
  }

  usage(usage: object): string {
    return `${this.#head}],"usage":${JSON.stringify(usage)}}\n\n`;
  }

  /** The first event of a choice names the speaker. */
  #role(): string {
    if (this.#begun) return "";
    this.#begun = true;
    return this.#event('{"role":"assistant","content":""}', "null", "null");
  }

  #event(delta: string, logprobs: string, finishReason: string): string {
    return `${this.#head}{"index":${this.#index},"delta":${delta},` +
      `"logprobs":${logprobs},"finish_reason":${finishReason}}${this.#tail}`;
  }
}

function nowS(): number {
  return Math.floor(Date.now() / 1_000);
}
