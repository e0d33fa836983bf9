/** `quetzal.v1.Decode`: one call is one sequence of an engine. */
import { trace } from "@opentelemetry/api";
import {
  type DecodeEvent,
  type DecodeRequest,
  DecodeService,
} from "../../proto/gen/quetzal/v1/decode.ts";
import { linkMethod, type SequenceHandler } from "../../lib/decode_link/mod.ts";
import type { SequenceSpec } from "../../lib/engine/types.ts";
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
import {
  GenAiOperation,
  Keys,
  type OpenSpan,
  providerName,
  startSpan,
} from "../../lib/telemetry/mod.ts";
import { finishedAtLength } from "./decode_event.ts";
import {
  kvFetcherOf,
  type KvFetchParts,
  type TransferCount,
} from "./kv_fetch.ts";
import { PacedEvents, Pacer } from "./paced_events.ts";
import { ReaderWatch } from "./reader_watch.ts";
import { SequenceTrace } from "./sequence_trace.ts";

export interface DecodeParts extends KvFetchParts {
  readonly models: ServedModels;
  readonly admission: Admission;
  /** A reader that takes nothing for this long loses its sequence. */
  readonly slowReaderMs: number;
  /** Lets tokens of crowded steps leave together; unless set none waits. */
  readonly pacer?: Pacer;
}

const tracer = trace.getTracer("quetzal.decode");
const unpaced = new Pacer({ everyMs: 0, batchMin: 1 });

export function decodeService(parts: DecodeParts): RpcService {
  const handler: SequenceHandler = (request, call, sink) =>
    generate(parts, request, call, sink);
  return {
    name: "quetzal.v1.Decode",
    definition: DecodeService,
    implementation: {
      generate: serverStream(handler, errorEvent),
      attach: linkMethod(handler, errorEvent),
    },
  };
}

function errorEvent(reason: unknown): DecodeEvent {
  return { event: { $case: "error", value: inBandError(reason) } };
}

async function generate(
  parts: DecodeParts,
  request: DecodeRequest,
  call: CallContext,
  sink: RpcSink<DecodeEvent>,
): Promise<void> {
  using onWorker = parts.admission.enter(call.signal);
  const model = parts.models.get(request.model);
  using admitted = model.admission.enter(onWorker.signal);
  const spec = toSpec(request, model);
  if (spec.emittedIds.length >= spec.maxTokens) {
    // The worker before us died between its last token and its goodbye.
    sink.write(finishedAtLength);
    return;
  }
  using open = openSpan(request, call);
  using sequenceTrace = new SequenceTrace(open, tracer);
  const observer = parts.observer.forModel(model.name);
  try {
    const count: TransferCount = { bytes: 0 };
    using reader = new ReaderWatch(admitted, parts.slowReaderMs);
    using paced = new PacedEvents({
      sink,
      pacer: parts.pacer ?? unpaced,
      transferredBytes: () => count.bytes,
      onSlow: (reading) => reader.watch(reading),
    });
    await model.engine.run(spec, {
      signal: admitted.signal,
      fetchKv: kvFetcherOf(parts, { request, model, parent: open, count }),
      onEvent(event) {
        sequenceTrace.add(event);
        observer.sequenceEvent(event);
        paced.write(event);
      },
    });
    await reader.orGone(paced.read());
  } catch (reason) {
    open.fail(reason);
    throw reason;
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

function openSpan(request: DecodeRequest, call: CallContext): OpenSpan {
  return startSpan({
    tracer,
    name: "decode.generate",
    kind: "server",
    parent: call.trace,
    attributes: {
      [Keys.operationName]: GenAiOperation.chat,
      [Keys.providerName]: providerName,
      [Keys.requestModel]: request.model,
      [Keys.requestMaxTokens]: request.maxTokens,
      [Keys.requestTemperature]: request.sampling?.temperature ?? 0,
      [Keys.sequenceId]: request.requestId,
      [Keys.usageInputTokens]: request.promptIds.length,
      "quetzal.tenant": request.tenant,
      "quetzal.emitted_tokens": request.emittedIds.length,
      "quetzal.prefill_address": request.prefillAddress,
    },
  });
}
