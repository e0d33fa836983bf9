import { randomBytes } from "node:crypto";
import { Code, MeshError } from "../../lib/errors/mesh_error.ts";
import { callStream, connect, fromStreamError } from "../../lib/rpc/mod.ts";
import { FinishReason } from "../../proto/gen/quetzal/v1/common.ts";
import {
  GenerateRequest,
  InferenceClient,
} from "../../proto/gen/quetzal/v1/inference.ts";
import type { AskConfig } from "./ask_flags.ts";

/** What `task ask --json` prints. */
export interface Answer {
  readonly text: string;
  readonly model: string;
  readonly finish_reason: string;
  readonly usage: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly cached_tokens: number;
  };
  readonly timings: {
    /** From sending the request to the first text. */
    readonly ttft_ms: number;
    readonly total_ms: number;
    /** Between the first and the last token; null with fewer than two. */
    readonly tokens_per_s: number | null;
  };
  readonly request_id: string;
  readonly trace_id: string;
}

/** Asks the mesh once; `onText` sees the text as it comes. */
export async function answer(
  config: AskConfig,
  { onText, signal }: { onText(text: string): void; signal: AbortSignal },
): Promise<Answer> {
  const client = connect(InferenceClient, config.grpc);
  const traceId = randomBytes(16).toString("hex");
  const spanId = randomBytes(8).toString("hex");
  const startMs = performance.now();
  const sinceStart = () => performance.now() - startMs;
  let text = "";
  let requestId = "";
  let model = config.model;
  let firstMs: number | undefined;
  let lastMs = 0;
  try {
    const events = callStream(
      client.generate.bind(client),
      requestOf(config),
      { signal, metadata: { traceparent: `00-${traceId}-${spanId}-01` } },
    );
    for await (const { event } of events) {
      if (event?.$case === "started") {
        ({ requestId, model } = event.value);
      } else if (event?.$case === "delta") {
        lastMs = sinceStart();
        firstMs ??= lastMs;
        text += event.value.text;
        onText(event.value.text);
      } else if (event?.$case === "finished") {
        const { promptTokens, completionTokens, cachedTokens, reason } =
          event.value;
        const decodeMs = lastMs - (firstMs ?? lastMs);
        return {
          text,
          model,
          finish_reason: reasonName(reason),
          usage: {
            prompt_tokens: promptTokens,
            completion_tokens: completionTokens,
            cached_tokens: cachedTokens,
          },
          timings: {
            ttft_ms: rounded(firstMs ?? sinceStart()),
            total_ms: rounded(sinceStart()),
            tokens_per_s: completionTokens > 1 && decodeMs > 0
              ? rounded((completionTokens - 1) / decodeMs * 1_000)
              : null,
          },
          request_id: requestId,
          trace_id: traceId,
        };
      } else if (event?.$case === "error") {
        throw fromStreamError(event.value);
      }
    }
  } finally {
    client.close();
  }
  throw new MeshError(
    Code.dataLoss,
    "Cannot read the answer: the stream ended without saying that it is finished",
  );
}

function requestOf(
  { prompt, model, raw, maxTokens, temperature, seed }: AskConfig,
): GenerateRequest {
  return GenerateRequest.fromPartial({
    model,
    maxTokens,
    seed,
    sampling: { temperature },
    input: raw ? { $case: "prompt", value: prompt } : {
      $case: "chat",
      value: { messages: [{ role: "user", content: prompt }] },
    },
  });
}

function reasonName(reason: FinishReason): string {
  const names: Partial<Record<FinishReason, string>> = {
    [FinishReason.FINISH_REASON_STOP]: "stop",
    [FinishReason.FINISH_REASON_LENGTH]: "length",
    [FinishReason.FINISH_REASON_CANCELLED]: "cancelled",
  };
  return names[reason] ?? "unknown";
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
