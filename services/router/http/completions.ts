import {
  type AnswerDelta,
  check,
  type GenerationRequest,
  type GenerationResult,
} from "../core/mod.ts";
import { choicesOf, runChoices, type RunChoicesOptions } from "./choices.ts";
import {
  type CompletionBody,
  completionInputs,
  completionSchema,
} from "./completion_schema.ts";
import { type Exchange, watchClient } from "./exchange.ts";
import type { HttpOptions } from "./http_options.ts";
import { readJson } from "./json_body.ts";
import { textLogprobs } from "./logprobs.ts";
import { streamEvents } from "./stream_events.ts";
import { usageOf } from "./usage.ts";

/** `POST /v1/completions`: choice `prompt * n + i` is answer `i` to that prompt. */
export async function completions(
  exchange: Exchange,
  options: HttpOptions,
): Promise<Response> {
  const { inference } = options;
  const body = check(
    completionSchema,
    await readJson(exchange.env.incoming, options.body),
  );
  using scope = inference.open();
  using _client = watchClient(exchange, scope);
  const id = `cmpl-${exchange.get("requestId")}`;
  const inputs = completionInputs(body);
  const choices = inputs.flatMap((input, index) => {
    const requestId = inputs.length === 1 ? id : `${id}-p${index}`;
    return choicesOf(inference.prepare(input, requestId, body.n), body.n);
  });
  const run = { inference, scope, trace: exchange.get("trace") };
  if (body.stream) {
    return await stream({ exchange, options, id, body, choices, run });
  }

  const { model } = choices[0];
  const deltas = choices.map((): AnswerDelta => ({ text: "", tokens: [] }));
  const results = await runChoices(choices, {
    ...run,
    onDelta(index, { text, tokens }) {
      deltas[index].text += text;
      if (body.logprobs !== undefined) deltas[index].tokens.push(...tokens);
      return undefined;
    },
  });
  return exchange.json({
    id,
    object: "text_completion",
    created: nowS(),
    model: model.name,
    choices: results.map(({ reason }, index) => ({
      index,
      text: deltas[index].text,
      logprobs: logprobsOf(deltas[index], body, choices[index]),
      finish_reason: reason,
    })),
    usage: usageOf(byPrompt(results, body.n)),
  });
}

interface StreamParts {
  readonly exchange: Exchange;
  readonly options: HttpOptions;
  readonly id: string;
  readonly body: CompletionBody;
  readonly choices: readonly GenerationRequest[];
  readonly run: Pick<RunChoicesOptions, "inference" | "scope" | "trace">;
}

function stream(
  { exchange, options, id, body, choices, run }: StreamParts,
): Promise<Response> {
  const constant = {
    id,
    object: "text_completion",
    created: nowS(),
    model: choices[0].model.name,
  };
  const head = `data: ${JSON.stringify(constant).slice(0, -1)},"choices":[`;
  const withUsage = body.stream_options?.include_usage === true;
  const tail = withUsage ? '],"usage":null}\n\n' : "]}\n\n";
  const event = (
    index: number,
    text: string,
    logprobs: string,
    reason: string,
  ) =>
    `${head}{"index":${index},"text":${text},"logprobs":${logprobs},"finish_reason":${reason}}${tail}`;

  return streamEvents(exchange, options, async (sse) => {
    const results = await runChoices(choices, {
      ...run,
      onDelta(index, delta) {
        const logprobs = logprobsOf(delta, body, choices[index]);
        const text = JSON.stringify(delta.text);
        return sse.write(
          event(
            index,
            text,
            logprobs ? JSON.stringify(logprobs) : "null",
            "null",
          ),
        );
      },
      onEnd: (index, { reason }) =>
        sse.write(event(index, '""', "null", `"${reason}"`)),
    });
    if (!withUsage) return;
    const usage = JSON.stringify(usageOf(byPrompt(results, body.n)));
    sse.write(`${head}],"usage":${usage}}\n\n`);
  });
}

function logprobsOf(
  { tokens }: AnswerDelta,
  body: CompletionBody,
  { model }: GenerationRequest,
) {
  if (typeof body.logprobs !== "number") return null;
  return textLogprobs(tokens, {
    tokenizer: model.tokenizer,
    topCount: body.logprobs,
  });
}

function byPrompt(
  results: readonly GenerationResult[],
  n: number,
): GenerationResult[][] {
  const prompts: GenerationResult[][] = [];
  for (let begin = 0; begin < results.length; begin += n) {
    prompts.push(results.slice(begin, begin + n));
  }
  return prompts;
}

function nowS(): number {
  return Math.floor(Date.now() / 1_000);
}
