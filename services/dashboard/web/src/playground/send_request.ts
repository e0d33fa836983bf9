/** One streamed chat request through the router, by way of the dashboard. */
import { failureOf } from "../data/api.ts";

export interface PlaygroundRequest {
  readonly model: string;
  readonly system: string;
  readonly prompt: string;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed?: number;
}

export interface PlaygroundEvents {
  /** As soon as the router has answered, before the first token. */
  readonly onTrace: (traceId: string) => void;
  readonly onText: (piece: string) => void;
  readonly onFinish: (reason: string) => void;
}

export async function sendRequest(
  request: PlaygroundRequest,
  events: PlaygroundEvents,
  signal: AbortSignal,
): Promise<void> {
  const response = await fetch("/api/playground/v1/chat/completions", {
    method: "POST",
    signal,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(bodyOf(request)),
  });
  const traceId = response.headers.get("x-trace-id");
  if (traceId) events.onTrace(traceId);
  if (!response.ok || !response.body) throw await failureOf(response);
  for await (const data of dataLines(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    const choice = chunk.choices?.[0];
    if (choice?.delta?.content) events.onText(choice.delta.content);
    if (choice?.finish_reason) events.onFinish(choice.finish_reason);
  }
}

function bodyOf(request: PlaygroundRequest) {
  const system = request.system.trim();
  return {
    model: request.model,
    messages: [
      ...(system ? [{ role: "system", content: system }] : []),
      { role: "user", content: request.prompt },
    ],
    max_tokens: request.maxTokens,
    temperature: request.temperature,
    ...(request.seed === undefined ? {} : { seed: request.seed }),
    stream: true,
  };
}

/** The `data:` lines of an event stream. */
async function* dataLines(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<string> {
  const reader = body.pipeThrough(
    new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>,
  ).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  }
}
