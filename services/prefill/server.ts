/** `quetzal.v1.Prefill`: runs a prompt and streams its KV blocks as they fill. */
import { type Span, trace } from "@opentelemetry/api";
import {
  kvDtypeToJSON,
  type PrefillEvent,
  type PrefillRequest,
  PrefillService,
} from "../../proto/gen/quetzal/v1/prefill.ts";
import type { PrefillResult, SequenceSpec } from "../../lib/engine/types.ts";
import { Code, MeshError } from "../../lib/errors/mesh_error.ts";
import {
  blockEventBytes,
  BlockSender,
  type Crc32c,
  kvDtypes,
  type KvFaultRates,
  planFault,
  type SharedFiles,
  SharedRun,
  type SharedTarget,
} from "../../lib/kv_transport/mod.ts";
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
  toProtoToken,
  toSampling,
  toTokenIds,
  type WorkerObserver,
} from "../../lib/worker/mod.ts";
import { Keys, type OpenSpan, startSpan } from "../../lib/telemetry/mod.ts";
import { Heartbeat } from "./heartbeat.ts";

export interface PrefillParts {
  readonly models: ServedModels;
  readonly admission: Admission;
  readonly crc32c: Crc32c;
  readonly kvBufferBytesMax: number;
  readonly kvFaults: KvFaultRates;
  /** Memory that decode workers of this host share with us; absent: none. */
  readonly sharedFiles?: SharedFiles;
  readonly observer: WorkerObserver;
  /** In 0..1, decides about deliberate faults. */
  readonly random: () => number;
  /** Ends the process as a kill would; only a deliberate fault calls it. */
  readonly die: () => void;
}

const tracer = trace.getTracer("quetzal.prefill");

export function prefillService(parts: PrefillParts): RpcService {
  return {
    name: "quetzal.v1.Prefill",
    definition: {
      ...PrefillService,
      run: { ...PrefillService.run, responseSerialize: serialize },
    },
    implementation: {
      run: serverStream<PrefillRequest, PrefillMessage>(
        (request, call, sink) => run(parts, request, call, sink),
        (reason) => ({
          event: { $case: "error", value: inBandError(reason) },
        }),
      ),
    },
  };
}

/** An event, or the bytes of one. */
type PrefillMessage = PrefillEvent | Buffer;

function serialize(message: PrefillMessage): Buffer {
  return Buffer.isBuffer(message)
    ? message
    : PrefillService.run.responseSerialize(message);
}

async function run(
  parts: PrefillParts,
  request: PrefillRequest,
  call: CallContext,
  sink: RpcSink<PrefillMessage>,
): Promise<void> {
  using onWorker = parts.admission.enter(call.signal);
  const model = parts.models.get(request.model);
  using admitted = model.admission.enter(onWorker.signal);
  requireSameLayout(request, model);
  const spec = toSpec(request, model);
  using open = openSpan(request, call);
  const { span } = open;
  try {
    await runPrompt({
      parts,
      request,
      model,
      spec,
      sink,
      span,
      signal: admitted.signal,
    });
  } catch (reason) {
    open.fail(reason);
    throw reason;
  }
}

interface PromptRun {
  readonly parts: PrefillParts;
  readonly request: PrefillRequest;
  readonly model: ServedModel;
  readonly spec: SequenceSpec;
  readonly sink: RpcSink<PrefillMessage>;
  readonly span: Span;
  readonly signal: AbortSignal;
}

async function runPrompt(prompt: PromptRun): Promise<void> {
  const { parts, model, spec, sink, span, signal } = prompt;
  using target = parts.sharedFiles?.use(
    prompt.request.sharedMemory,
    missingBlocks(prompt) * model.layout.blockBytes,
  );
  const sender = senderOf(prompt, target);
  using _heartbeat = new Heartbeat(sink, () => !sender.halted);
  const result = await model.engine.prefill(spec, {
    signal,
    onBlocks: (progress) => {
      sender.offer(progress, progress.end);
      span.addEvent("chunk", {
        [Keys.blockCount]: progress.end,
        "quetzal.chunk.tokens": (progress.end - progress.begin) *
          model.layout.blockTokens,
      });
    },
  });
  using kv = result.kv;
  const sendStartMs = performance.now();
  await sender.finish(kv);
  if (signal.aborted) return;
  sink.write(doneEvent(result));
  const observer = parts.observer.forModel(model.name);
  observer.promptDone(result);
  observer.kvTransferred(sender.bytes);
  span.setAttributes({
    [Keys.queueWaitMs]: result.queueUs / 1_000,
    "quetzal.compute_ms": result.computeUs / 1_000,
    "quetzal.send_ms": performance.now() - sendStartMs,
    [Keys.usageCachedInputTokens]: result.cachedTokens,
    "quetzal.computed_tokens": result.computedTokens,
    "quetzal.kv.shared_memory": target !== undefined,
    [Keys.blockCount]: sender.blocks,
    [Keys.kvBytes]: sender.bytes,
  });
}

/** Blocks that the caller lacks. */
function missingBlocks({ request, model }: PromptRun): number {
  const { blockTokens } = model.layout;
  return Math.ceil(request.promptIds.length / blockTokens) -
    request.haveTokens / blockTokens;
}

function senderOf(
  prompt: PromptRun,
  target: SharedTarget | undefined,
): BlockSender {
  const { parts, request, model, sink, signal } = prompt;
  const { crc32c } = parts;
  const tokenCount = request.promptIds.length;
  const { layout } = model;
  const blockCount = missingBlocks(prompt);
  const fault = blockCount > 0
    ? planFault(parts.kvFaults, blockCount, parts.random)
    : undefined;
  if (fault !== undefined) {
    parts.observer.warn("A deliberate fault hits this KV transfer", {
      requestId: request.requestId,
      ...fault,
    });
  }
  return new BlockSender({
    layout,
    tokenCount,
    haveTokens: request.haveTokens,
    crc32c,
    shared: target && new SharedRun({
      layout,
      target,
      firstBlock: request.haveTokens / layout.blockTokens,
      crc32c,
    }),
    bufferBytesMax: parts.kvBufferBytesMax,
    signal,
    fault,
    die: parts.die,
    sink: {
      write: (block) => sink.write(blockEventBytes(block)),
      announce: (value) =>
        void sink.write({ event: { $case: "sharedBlocks", value } }),
      get pending() {
        return sink.pending;
      },
    },
  });
}

/** KV of another layout would be noise to the caller's model. */
function requireSameLayout(
  request: PrefillRequest,
  { layout }: ServedModel,
): void {
  const differs = (field: string, needed: unknown, found: unknown) => {
    throw new MeshError(
      Code.failedPrecondition,
      `Cannot hand over KV: ${field} must be ${needed}, is ${found}`,
      { field },
    );
  };
  const dtype = kvDtypes[layout.kvType];
  if (request.kvDtype !== dtype) {
    differs("kv_dtype", kvDtypeToJSON(dtype), kvDtypeToJSON(request.kvDtype));
  }
  if (request.blockTokens !== layout.blockTokens) {
    differs("block_tokens", layout.blockTokens, request.blockTokens);
  }
  // Last, for it also covers the others, and says less.
  if (request.modelFingerprint !== layout.fingerprint) {
    differs("model_fingerprint", layout.fingerprint, request.modelFingerprint);
  }
}

function toSpec(request: PrefillRequest, model: ServedModel): SequenceSpec {
  const { haveTokens, emittedCount } = request;
  const ids = toTokenIds(request.promptIds, model, "prompt_ids");
  if (ids.length === 0) refuse("prompt_ids", "at least one id", "empty");
  requireFits(ids.length, model);
  if (!(haveTokens >= 0 && haveTokens <= ids.length)) {
    refuse("have_tokens", `0..${ids.length}`, haveTokens);
  }
  if (haveTokens % model.layout.blockTokens !== 0) {
    refuse(
      "have_tokens",
      `a multiple of ${model.layout.blockTokens}`,
      haveTokens,
    );
  }
  if (!(emittedCount >= 0 && emittedCount < ids.length)) {
    refuse("emitted_count", `0..${ids.length - 1}`, emittedCount);
  }
  const promptCount = ids.length - emittedCount;
  return {
    requestId: request.requestId,
    promptIds: ids.subarray(0, promptCount),
    emittedIds: ids.subarray(promptCount),
    sampling: toSampling(request.sampling, model),
    maxTokens: emittedCount + 1,
  };
}

function doneEvent(result: PrefillResult): PrefillEvent {
  return {
    event: {
      $case: "done",
      value: {
        firstToken: toProtoToken(result.firstToken),
        stopped: result.stopped,
        cachedTokens: result.cachedTokens,
        computedTokens: result.computedTokens,
        queueUs: BigInt(Math.round(result.queueUs)),
        computeUs: BigInt(Math.round(result.computeUs)),
      },
    },
  };
}

function openSpan(request: PrefillRequest, call: CallContext): OpenSpan {
  return startSpan({
    tracer,
    name: "prefill.run",
    kind: "server",
    parent: call.trace,
    attributes: {
      [Keys.requestModel]: request.model,
      [Keys.sequenceId]: request.requestId,
      [Keys.usageInputTokens]: request.promptIds.length,
      "quetzal.have_tokens": request.haveTokens,
    },
  });
}
