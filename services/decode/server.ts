/** `quetzal.v1.Decode`: one call is one sequence of an engine. */
import { type Span, SpanKind, trace } from "@opentelemetry/api";
import {
  type DecodeEvent,
  type DecodeRequest,
  DecodeService,
} from "../../proto/gen/quetzal/v1/decode.ts";
import type { SequenceEvent, SequenceSpec } from "../../lib/engine/types.ts";
import { Code, MeshError } from "../../lib/errors/mesh_error.ts";
import {
  type CallContext,
  type RpcService,
  type RpcSink,
  serverStream,
} from "../../lib/rpc/mod.ts";
import {
  type Admission,
  inBandError,
  refuse,
  requireFits,
  type ServedModel,
  type ServedModels,
  toSampling,
  toTokenIds,
} from "../../lib/worker/mod.ts";
import { finishedAtLength, toDecodeEvent } from "./decode_event.ts";
import {
  kvFetcherOf,
  type KvFetchParts,
  type TransferCount,
} from "./kv_fetch.ts";
import { SequenceTrace } from "./sequence_trace.ts";
import { settlesWithin } from "./settles_within.ts";

export interface DecodeParts extends KvFetchParts {
  readonly models: ServedModels;
  readonly admission: Admission;
  /** A reader that takes nothing for this long loses its sequence. */
  readonly slowReaderMs: number;
}

const tracer = trace.getTracer("quetzal.decode");

export function decodeService(parts: DecodeParts): RpcService {
  return {
    name: "quetzal.v1.Decode",
    definition: DecodeService,
    implementation: {
      generate: serverStream<DecodeRequest, DecodeEvent>(
        (request, call, sink) => generate(parts, request, call, sink),
        (reason) => ({
          event: { $case: "error", value: inBandError(reason) },
        }),
      ),
    },
  };
}

async function generate(
  parts: DecodeParts,
  request: DecodeRequest,
  call: CallContext,
  sink: RpcSink<DecodeEvent>,
): Promise<void> {
  using admitted = parts.admission.enter(call.signal);
  const model = parts.models.get(request.model);
  const spec = toSpec(request, model);
  if (spec.emittedIds.length >= spec.maxTokens) {
    // The worker before us died between its last token and its goodbye.
    sink.write(finishedAtLength);
    return;
  }
  const span = startSpan(request, call);
  const sequenceTrace = new SequenceTrace(span);
  try {
    const count: TransferCount = { bytes: 0 };
    const events = model.engine.generate(spec, {
      signal: admitted.signal,
      fetchKv: kvFetcherOf(parts, {
        request,
        model,
        parent: trace.setSpan(call.trace, span),
        count,
      }),
    });
    for await (const event of events) {
      sequenceTrace.add(event);
      const slow = sink.write(toDecodeEvent(event, count.bytes));
      if (slow !== undefined) {
        await waitForReader(slow, parts.slowReaderMs, admitted.signal);
      }
      countTokens(parts, spec, event);
    }
  } catch (reason) {
    sequenceTrace.failed(reason);
    throw reason;
  } finally {
    sequenceTrace.end();
  }
}

/**
 * While the reader is slow the sequence goes on inside the engine, where its events
 * are bounded by max_tokens; a reader that stands still would hold KV blocks for
 * nothing, so it loses them after a while.
 */
async function waitForReader(
  slow: Promise<void>,
  slowReaderMs: number,
  signal: AbortSignal,
): Promise<void> {
  if (await settlesWithin(slow, slowReaderMs, signal)) return;
  signal.throwIfAborted();
  throw new MeshError(
    Code.resourceExhausted,
    `Cannot go on with the sequence: its reader took nothing for ${slowReaderMs} ms`,
  );
}

function countTokens(
  { observer }: DecodeParts,
  { promptIds }: SequenceSpec,
  event: SequenceEvent,
): void {
  if (event.kind === "tokens") {
    observer.tokens({ generated: event.tokens.length });
  } else if (event.kind === "started") {
    observer.tokens({ prompt: promptIds.length });
  }
}

function toSpec(request: DecodeRequest, model: ServedModel): SequenceSpec {
  const { maxTokens } = request;
  const promptIds = toTokenIds(request.promptIds, model, "prompt_ids");
  const emittedIds = toTokenIds(request.emittedIds, model, "emitted_ids");
  if (promptIds.length === 0) refuse("prompt_ids", "at least one id", "empty");
  requireFits(promptIds.length + emittedIds.length, model);
  if (maxTokens < 1) refuse("max_tokens", "at least 1", maxTokens);
  return {
    requestId: request.requestId,
    promptIds,
    emittedIds,
    sampling: toSampling(request.sampling, model),
    maxTokens,
  };
}

function startSpan(request: DecodeRequest, call: CallContext): Span {
  const { sampling } = request;
  const attributes = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": request.model,
    "gen_ai.request.max_tokens": request.maxTokens,
    "gen_ai.request.temperature": sampling?.temperature ?? 0,
    "quetzal.request_id": request.requestId,
    "quetzal.tenant": request.tenant,
    "quetzal.prompt_tokens": request.promptIds.length,
    "quetzal.emitted_tokens": request.emittedIds.length,
    "quetzal.prefill_address": request.prefillAddress,
  };
  return tracer.startSpan("decode.generate", {
    kind: SpanKind.SERVER,
    attributes,
  }, call.trace);
}
