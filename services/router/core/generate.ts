import type { Clock } from "../../../lib/bus/clock.ts";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import {
  type DecodeLink,
  SlowReaderError,
} from "../../../lib/decode_link/mod.ts";
import { fromStreamError } from "../../../lib/rpc/mod.ts";
import { FinishReason } from "../../../proto/gen/quetzal/v1/common.ts";
import type {
  DecodeEvent,
  DecodeFinished,
  DecodeRequest,
  DecodeStarted,
  DecodeTokens,
} from "../../../proto/gen/quetzal/v1/decode.ts";
import type { WorkerClients } from "../workers/worker_clients.ts";
import type { WorkerTable } from "../workers/worker_table.ts";
import type { Dispatcher, Lease } from "./dispatcher.ts";
import { goesOnElsewhere, setAside } from "./elsewhere.ts";
import type {
  AnswerDelta,
  GenerationRequest,
  GenerationResult,
  GenerationSink,
} from "./generation.ts";
import { ProgressWatch } from "./progress_watch.ts";
import { OutputText } from "./output_text.ts";
import type { RequestScope } from "./request_scope.ts";
import { tracedSearch } from "./route_trace.ts";
import type { GenerationTrace } from "./generation_trace.ts";

export interface GenerateParts {
  readonly dispatcher: Dispatcher;
  readonly workers: WorkerTable;
  readonly clients: WorkerClients<DecodeLink>;
  readonly clock: Clock;
  /** Decode calls per sequence before it fails. */
  readonly attemptsMax: number;
  /** A client that takes nothing for this long loses its sequence. */
  readonly slowClientMs: number;
  /** A sequence that has begun and brings nothing for this long goes on elsewhere. */
  readonly stallMs: number;
}

export interface GenerateOptions {
  readonly sink: GenerationSink;
  readonly scope: RequestScope;
  readonly trace: GenerationTrace;
}

/**
 * Runs one sequence to its end, on as many workers as it takes.
 *
 * A worker that dies, refuses or breaks off is set aside and the sequence goes on
 * elsewhere (or there, once it is back) behind the tokens it has. Sampling is
 * keyed by seed and output index, so the next worker draws what the first would
 * have drawn; text and stop strings go on in the same `OutputText`. The client
 * sees a pause.
 *
 * A client that does not read costs the tokens generated meanwhile, and not for
 * long: after `slowClientMs`, or when the link counts too many unread events, the
 * sequence is cancelled.
 */
export async function generate(
  request: GenerationRequest,
  options: GenerateOptions,
  parts: GenerateParts,
): Promise<GenerationResult> {
  const sequence = new Sequence(request, options, parts);
  let failureCount = 0;
  for (let attempt = 1;; attempt++) {
    using lease = await acquire(sequence, attempt, options, parts);
    const failure = await sequence.runOn(lease);
    if (failure === undefined) return sequence.result(attempt);
    options.scope.signal.throwIfAborted();
    const isFull = failure.code === Code.resourceExhausted;
    // One that has begun waits for a place; a full queue is not its doing.
    if (!isFull || !sequence.hasBegun) failureCount++;
    if (!goesOnElsewhere(failure) || failureCount >= parts.attemptsMax) {
      throw failure;
    }
    setAside(lease.worker, failure, { workers: parts.workers, request });
  }
}

function acquire(
  sequence: Sequence,
  attempt: number,
  { scope, trace }: GenerateOptions,
  { dispatcher }: GenerateParts,
): Promise<Lease> {
  const { request } = sequence;
  return tracedSearch(
    trace.startRoute(attempt),
    () =>
      dispatcher.acquire({
        model: request.model.name,
        tokenIds: sequence.tokenIds(),
        contextNeeded: request.promptIds.length + request.maxTokens,
        hashes: new Map(),
        isReplay: attempt > 1,
      }, scope.signal),
  );
}

/** One sequence across its attempts. */
class Sequence {
  readonly request: GenerationRequest;
  readonly #options: GenerateOptions;
  readonly #parts: GenerateParts;
  readonly #output: OutputText<DecodeTokens["tokens"][number]>;
  /** All tokens received, those held back by a stop string included. */
  readonly #emitted: number[] = [];
  readonly #delta: AnswerDelta = { text: "", tokens: [] };
  #cachedTokens: number | undefined;
  #reason: "stop" | "length" | undefined;

  constructor(
    request: GenerationRequest,
    options: GenerateOptions,
    parts: GenerateParts,
  ) {
    this.request = request;
    this.#options = options;
    this.#parts = parts;
    const { model, stop, sampling, showSpecial } = request;
    this.#output = new OutputText(
      model.tokenizer.stream({ special: showSpecial }),
      {
        stop,
        minTokens: sampling.minTokens,
      },
    );
  }

  /** The client may have some of its answer. */
  get hasBegun(): boolean {
    return this.#emitted.length > 0;
  }

  /** Prompt and output so far: what the next worker must hold KV of. */
  tokenIds(): Int32Array {
    const { promptIds } = this.request;
    if (this.#emitted.length === 0) return promptIds;
    const all = new Int32Array(promptIds.length + this.#emitted.length);
    all.set(promptIds);
    all.set(this.#emitted, promptIds.length);
    return all;
  }

  /** One decode call; answers the failure that ended it early. Aborts are thrown. */
  async runOn(lease: Lease): Promise<MeshError | undefined> {
    const { scope, trace } = this.#options;
    const { clock, stallMs } = this.#parts;
    // The worker died behind its last token: nothing is left to generate.
    if (this.#emitted.length >= this.request.maxTokens) {
      await this.#finish("length");
      return undefined;
    }
    using span = trace.startDecode(lease, this.#emitted.length);
    using watch = new ProgressWatch({
      clock,
      stallMs,
      signal: scope.signal,
      workerId: lease.worker.record.workerId,
    });
    using _hang = this.#parts.workers.onHang(
      lease.worker,
      (silentMs) => watch.workerHangs(silentMs),
    );
    try {
      const events = span.run(() => this.#call(lease, watch.signal));
      for await (const { event } of events) {
        watch.heard();
        if (event !== undefined && await this.#take(event, lease)) break;
      }
      if (this.#reason === undefined) throw brokenOff(lease);
      return undefined;
    } catch (reason) {
      span.fail(reason);
      if (scope.signal.aborted || isClientsDoing(reason)) throw reason;
      return MeshError.from(reason);
    }
  }

  result(attempts: number): GenerationResult {
    return {
      reason: this.#reason!,
      stop: this.#output.stopped,
      promptTokens: this.request.promptIds.length,
      completionTokens: this.#output.tokenCount,
      cachedTokens: this.#cachedTokens ?? 0,
      attempts,
    };
  }

  #call(lease: Lease, signal: AbortSignal): AsyncIterable<DecodeEvent> {
    const { request } = this;
    const link = this.#parts.clients.at(lease.worker.record.address);
    const message: DecodeRequest = {
      requestId: request.requestId,
      model: request.model.name,
      // ts-proto wants an array; the ids are only read.
      promptIds: request.promptIds as unknown as number[],
      emittedIds: [...this.#emitted],
      sampling: request.sampling,
      maxTokens: request.maxTokens,
      prefillAddress: lease.prefill?.record.address ?? "",
      tenant: request.tenant,
    };
    const { deadlineMs } = this.#options.scope;
    return link.generate(message, { signal, deadlineMs });
  }

  /** Takes one event; true when the answer is complete. */
  #take(
    event: NonNullable<DecodeEvent["event"]>,
    lease: Lease,
  ): Promise<boolean> | boolean {
    switch (event.$case) {
      case "tokens":
        return this.#takeTokens(event.value);
      case "started":
        return this.#takeStarted(event.value, lease);
      case "finished":
        return this.#takeFinished(event.value);
      case "error":
        throw fromStreamError(event.value);
    }
  }

  #takeStarted({ cachedTokens }: DecodeStarted, lease: Lease): boolean {
    this.#cachedTokens ??= cachedTokens;
    this.#parts.workers.trust(lease.worker);
    lease.prefillDone();
    return false;
  }

  #takeTokens(step: DecodeTokens): Promise<boolean> | boolean {
    const { tokens } = step;
    for (const token of tokens) this.#emitted.push(token.id);
    const { trace } = this.#options;
    const texts: string[] | undefined = trace.wantsText ? [] : undefined;
    this.#output.push(tokens, this.#delta, texts);
    trace.tokens(step, texts);
    const stopped = this.#output.stopped !== undefined;
    if (stopped) this.#reason = "stop";
    const wait = this.#flush();
    return wait === undefined ? stopped : wait.then(() => stopped);
  }

  async #takeFinished({ reason }: DecodeFinished): Promise<boolean> {
    switch (reason) {
      case FinishReason.FINISH_REASON_STOP:
        await this.#finish("stop");
        return true;
      case FinishReason.FINISH_REASON_LENGTH:
        await this.#finish("length");
        return true;
      default:
        throw new MeshError(
          Code.unavailable,
          "The worker cancelled the sequence",
        );
    }
  }

  #finish(reason: "stop" | "length"): Promise<void> | undefined {
    this.#output.end(this.#delta);
    this.#reason = this.#output.stopped === undefined ? reason : "stop";
    return this.#flush();
  }

  /** Hands what is final to the client, and waits for a slow one. */
  #flush(): Promise<void> | undefined {
    const delta = this.#delta;
    if (delta.text === "" && delta.tokens.length === 0) return undefined;
    const wait = this.#options.sink.write(delta);
    delta.text = "";
    delta.tokens.length = 0;
    return wait && this.#whileReading(wait);
  }

  /** Waits for the client, but not for ever. */
  async #whileReading(wait: Promise<void>): Promise<void> {
    const { clock, slowClientMs } = this.#parts;
    const { promise, reject } = Promise.withResolvers<never>();
    using _timer = clock.setTimer(slowClientMs, () =>
      reject(
        new ClientFailure(
          Code.cancelled,
          `Cannot go on: the client has read nothing for ${slowClientMs} ms`,
        ),
      ));
    await Promise.race([wait, promise]);
    this.#options.scope.signal.throwIfAborted();
  }
}

class ClientFailure extends MeshError {}

/** The client reads too slowly, so no other worker helps. */
function isClientsDoing(reason: unknown): boolean {
  return reason instanceof ClientFailure || reason instanceof SlowReaderError;
}

function brokenOff({ worker }: Lease): MeshError {
  const { workerId } = worker.record;
  return new MeshError(
    Code.unavailable,
    `Decode worker "${workerId}" ended without an answer`,
  );
}
