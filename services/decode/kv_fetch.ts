/** Gets a prompt's KV from a prefill worker, or leaves it to the engine to compute. */
import {
  type Context,
  context,
  type Span,
  SpanKind,
  trace,
} from "@opentelemetry/api";
import type { DecodeRequest } from "../../proto/gen/quetzal/v1/decode.ts";
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

const tracer = trace.getTracer("quetzal.decode");

/** `undefined` when the request names no prefill worker that may be asked. */
export function kvFetcherOf(
  parts: KvFetchParts,
  { request, model, parent, count }: {
    readonly request: DecodeRequest;
    readonly model: ServedModel;
    /** Context of the span that the fetch belongs to. */
    readonly parent: Context;
    readonly count: TransferCount;
  },
): KvFetcher | undefined {
  const address = request.prefillAddress;
  if (address === "") return undefined;
  if (parts.prefillWorkers.find(address, model.name) === undefined) {
    parts.observer.warn("The prompt is computed here: no such prefill worker", {
      requestId: request.requestId,
      model: model.name,
      address,
    });
    parts.observer.kvTransferFailed("unknown_address");
    trace.getSpan(parent)?.addEvent("quetzal.kv.local", {
      "quetzal.kv.reason": "unknown_address",
      "quetzal.kv.address": address,
    });
    return undefined;
  }
  return async (fetch, signal) => {
    if (fetch.tokenIds.length - fetch.haveTokens < parts.remoteTokensMin) {
      trace.getSpan(parent)?.addEvent("quetzal.kv.local", {
        "quetzal.kv.reason": "short_prompt",
      });
      return { tokens: fetch.haveTokens };
    }
    const span = tracer.startSpan(
      "kv.fetch",
      { kind: SpanKind.CLIENT },
      parent,
    );
    const startMs = performance.now();
    try {
      const pulled = await context.with(
        trace.setSpan(parent, span),
        () => pull(parts, { request, model, fetch, signal }),
      );
      count.bytes = pulled.bytes;
      describe(span, address, pulled, performance.now() - startMs);
      report(parts, request, pulled);
      return toResult(pulled, model);
    } finally {
      span.end();
    }
  };
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
  span: Span,
  address: string,
  pulled: KvPulled,
  ms: number,
): void {
  span.setAttributes({
    "server.address": address,
    "quetzal.kv.bytes": pulled.bytes,
    "quetzal.kv.blocks": pulled.blocks,
    "quetzal.kv.bytes_per_s": Math.round(
      pulled.bytes / Math.max(ms, 0.001) * 1_000,
    ),
  });
  if (pulled.failure === undefined) return;
  const { reason, message } = pulled.failure;
  span.addEvent("quetzal.kv.failed", { "quetzal.kv.reason": reason, message });
  span.setStatus({ code: 2, message });
}

function report(
  { observer }: KvFetchParts,
  { requestId, prefillAddress }: DecodeRequest,
  { bytes, failure }: KvPulled,
): void {
  if (bytes > 0) observer.kvTransferred(bytes);
  if (failure === undefined) return;
  observer.kvTransferFailed(failure.reason);
  observer.warn(
    "The rest of the prompt is computed here: its KV transfer failed",
    {
      requestId,
      address: prefillAddress,
      ...failure,
    },
  );
}
