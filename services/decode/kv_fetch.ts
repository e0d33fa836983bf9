/** Gets a prompt's KV from a prefill worker, or leaves it to the engine to compute. */
import { type Span, trace } from "@opentelemetry/api";
import type { DecodeRequest } from "../../proto/gen/quetzal/v1/decode.ts";
import { Keys, type OpenSpan, startSpan } from "../../lib/telemetry/mod.ts";
import type {
  KvFetcher,
  KvFetchRequest,
  KvFetchResult,
} from "../../lib/engine/types.ts";
import type { KvPulled, KvTransport } from "../../lib/kv_transport/mod.ts";
import {
  type ServedModel,
  toEngineToken,
  type WorkerDirectory,
  type WorkerObserver,
} from "../../lib/worker/mod.ts";

export interface KvFetchParts {
  readonly transport: KvTransport;
  readonly prefillWorkers: WorkerDirectory;
  /** Prompts with fewer tokens left to compute are computed here. */
  readonly remoteTokensMin: number;
  readonly observer: WorkerObserver;
}

/** What came over the network for one sequence. */
export interface TransferCount {
  bytes: number;
}

/** Why a prompt is computed here although a prefill worker was named. */
type LocalReason = "unknown_address" | "short_prompt";

const tracer = trace.getTracer("quetzal.decode");

/** `undefined` when the request names no prefill worker that may be asked. */
export function kvFetcherOf(
  parts: KvFetchParts,
  { request, model, parent, count }: {
    readonly request: DecodeRequest;
    readonly model: ServedModel;
    /** The span that the fetch belongs to. */
    readonly parent: OpenSpan;
    readonly count: TransferCount;
  },
): KvFetcher | undefined {
  const address = request.prefillAddress;
  if (address === "") return undefined;
  if (parts.prefillWorkers.find(address, model.name) === undefined) {
    reportUnknown(parts, request);
    computedHere(parent.span, "unknown_address");
    return undefined;
  }
  return async (fetch, signal) => {
    if (fetch.tokenIds.length - fetch.haveTokens < parts.remoteTokensMin) {
      computedHere(parent.span, "short_prompt");
      return { tokens: fetch.haveTokens };
    }
    using open = startSpan({
      tracer,
      name: "kv.fetch",
      kind: "client",
      parent: parent.context,
      attributes: { [Keys.serverAddress]: address },
    });
    const startMs = performance.now();
    const pulled = await open.run(() =>
      pull(parts, { request, model, fetch, signal })
    );
    count.bytes = pulled.bytes;
    describe(open, pulled, performance.now() - startMs);
    report(parts, request, pulled);
    return toResult(pulled, model);
  };
}

function computedHere(span: Span, reason: LocalReason): void {
  span.addEvent("prompt computed here", { "quetzal.kv.reason": reason });
}

function reportUnknown(
  { observer }: KvFetchParts,
  { requestId, model, prefillAddress }: DecodeRequest,
): void {
  const address = prefillAddress.slice(0, 256);
  observer.forModel(model).kvTransferFailed("unknown_address");
  observer.warn(
    "The prompt is computed here: no such prefill worker is registered",
    {
      requestId,
      model,
      address,
    },
  );
}

function pull(
  { transport }: KvFetchParts,
  { request, model, fetch, signal }: {
    readonly request: DecodeRequest;
    readonly model: ServedModel;
    readonly fetch: KvFetchRequest;
    readonly signal: AbortSignal;
  },
): Promise<KvPulled> {
  return transport.pull({
    address: request.prefillAddress,
    layout: model.layout,
    prompt: {
      requestId: request.requestId,
      model: model.name,
      tokenIds: fetch.tokenIds,
      emittedCount: request.emittedIds.length,
      sampling: request.sampling,
    },
    haveTokens: fetch.haveTokens,
    blockBytes: (index) => fetch.blockBytes(index),
  }, signal);
}

/** A first token outside the vocabulary is not used: the engine chooses its own. */
function toResult(
  { tokens, firstToken }: KvPulled,
  { engine: { vocabSize } }: ServedModel,
): KvFetchResult {
  if (
    firstToken === undefined ||
    !(firstToken.id >= 0 && firstToken.id < vocabSize)
  ) {
    return { tokens };
  }
  return { tokens, firstToken: toEngineToken(firstToken) };
}

function describe(
  { span, fail }: OpenSpan,
  pulled: KvPulled,
  ms: number,
): void {
  span.setAttributes({
    [Keys.kvBytes]: pulled.bytes,
    [Keys.blockCount]: pulled.blocks,
    "quetzal.kv.bytes_per_s": Math.round(
      pulled.bytes / Math.max(ms, 0.001) * 1_000,
    ),
  });
  if (pulled.failure === undefined) return;
  span.setAttribute("quetzal.kv.reason", pulled.failure.reason);
  fail(new Error(pulled.failure.message));
}

function report(
  { observer }: KvFetchParts,
  { requestId, model, prefillAddress }: DecodeRequest,
  { bytes, failure }: KvPulled,
): void {
  if (bytes > 0) observer.forModel(model).kvTransferred(bytes);
  if (failure === undefined) return;
  observer.forModel(model).kvTransferFailed(failure.reason);
  observer.warn(
    "The rest of the prompt is computed here: its KV transfer failed",
    {
      requestId,
      address: prefillAddress,
      ...failure,
    },
  );
}
