import {
  linkMethod,
  type SequenceHandler,
} from "../../../lib/decode_link/mod.ts";
import { type EmbedScript, fakeEmbedService } from "./fake_embed.ts";
import { workerRecord } from "./records.ts";
import type { RpcServer } from "../../../lib/rpc/mod.ts";
import {
  type CallContext,
  serverStream,
  startRpcServer,
  toStreamError,
} from "../../../lib/rpc/mod.ts";
import type {
  MeshBus,
  WorkerModel,
  WorkerRecord,
  WorkerRole,
} from "../../../lib/bus/mod.ts";
import {
  FinishReason,
  Provenance,
} from "../../../proto/gen/quetzal/v1/common.ts";
import {
  type DecodeEvent,
  type DecodeRequest,
  DecodeService,
} from "../../../proto/gen/quetzal/v1/decode.ts";

/** What the next token of a sequence is: a function of its place alone, as with a fixed seed. */
export type Script = (request: DecodeRequest, index: number) => number | "stop";

export interface FakeDecodeOptions {
  readonly workerId: string;
  readonly script: Script;
  /** Answers `Embed.Run`, which a worker of either role serves. */
  readonly embed?: EmbedScript;
  /** Of its record; "decode" unless set. */
  readonly role?: WorkerRole;
  /** Pause before each token. */
  readonly tokenMs?: number;
  /** Tokens per message; more than one imitates speculation. */
  readonly tokensPerStep?: number;
  /** Called with each request and token; may throw, or kill the server. */
  readonly onToken?: (
    worker: FakeDecode,
    request: DecodeRequest,
    index: number,
  ) => void;
}

/**
 * A decode worker of a test: real gRPC, scripted tokens. `model` of its record
 * can be changed, `crash()` cuts its connections as a killed process would.
 */
export class FakeDecode {
  readonly requests: DecodeRequest[] = [];
  readonly calls: CallContext[] = [];
  readonly #options: FakeDecodeOptions;
  #server: RpcServer | undefined;
  #startedAtMs = 0;
  running = 0;
  /** Ends one stream without a last message behind this many tokens. */
  breakOffAt: number | undefined;
  /** Sends nothing more until its call is cancelled; later ones do not even start. */
  hangs = false;
  /** Messages handed to gRPC. */
  written = 0;

  constructor(options: FakeDecodeOptions) {
    this.#options = options;
  }

  get workerId(): string {
    return this.#options.workerId;
  }

  get address(): string {
    return `127.0.0.1:${this.#server?.port}`;
  }

  async start(port = 0): Promise<this> {
    this.#startedAtMs = Date.now() + Math.random();
    const handler: SequenceHandler = (request, call, sink) =>
      this.#generate(request, call, (event) => sink.write(event));
    this.#server = await startRpcServer({
      port,
      services: [
        {
          name: "quetzal.v1.Decode",
          definition: DecodeService,
          implementation: {
            generate: serverStream(handler, errorEvent),
            attach: linkMethod(handler, errorEvent),
          },
        },
        ...(this.#options.embed ? [fakeEmbedService(this.#options.embed)] : []),
      ],
    });
    return this;
  }

  record(
    model: Partial<WorkerModel> = {},
    record: Partial<WorkerRecord> = {},
  ): WorkerRecord {
    return workerRecord(this.workerId, {
      address: this.address,
      startedAtMs: this.#startedAtMs,
      role: this.#options.role ?? "decode",
      model,
      ...record,
    });
  }

  join(bus: MeshBus, model: Partial<WorkerModel> = {}): Promise<void> {
    return bus.putWorker(this.record(model));
  }

  /** Every connection breaks at once. */
  async crash(): Promise<void> {
    await this.#server?.close(0);
    this.#server = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.crash();
  }

  async #generate(
    request: DecodeRequest,
    call: CallContext,
    write: (event: DecodeEvent) => Promise<void> | undefined,
  ): Promise<void> {
    this.requests.push(request);
    this.calls.push(call);
    this.running++;
    try {
      if (this.hangs) return await cancelled(call.signal);
      await write({
        event: {
          $case: "started",
          value: {
            cachedTokens: 16,
            transferredTokens: 0,
            computedTokens: request.promptIds.length,
            queueUs: 0n,
            prefillUs: 0n,
            transferredBytes: 0n,
          },
        },
      });
      await this.#tokens(request, call, write);
    } finally {
      this.running--;
    }
  }

  async #tokens(
    request: DecodeRequest,
    call: CallContext,
    write: (event: DecodeEvent) => Promise<void> | undefined,
  ): Promise<void> {
    const { script, tokenMs, tokensPerStep = 1, onToken } = this.#options;
    for (let index = request.emittedIds.length; index < request.maxTokens;) {
      const tokens = [];
      let stopped = false;
      while (
        tokens.length < tokensPerStep && index < request.maxTokens && !stopped
      ) {
        const id = script(request, index);
        stopped = id === "stop";
        if (id !== "stop") tokens.push(tokenMessage(request, id, index++));
      }
      if (tokenMs !== undefined) await pause(tokenMs);
      if (call.signal.aborted) return;
      onToken?.(this, request, index);
      if (this.hangs) return await cancelled(call.signal);
      this.written++;
      const breaksOff = this.breakOffAt !== undefined &&
        index >= this.breakOffAt;
      if (tokens.length > 0) {
        await write({
          event: {
            $case: "tokens",
            value: { tokens, batchSize: 1, stepUs: 10 },
          },
        });
      }
      if (breaksOff) {
        this.breakOffAt = undefined;
        return;
      }
      if (stopped) return void write(finished(FinishReason.FINISH_REASON_STOP));
    }
    write(finished(FinishReason.FINISH_REASON_LENGTH));
  }
}

function errorEvent(reason: unknown): DecodeEvent {
  return { event: { $case: "error", value: toStreamError(reason) } };
}

function tokenMessage({ sampling }: DecodeRequest, id: number, index: number) {
  const count = sampling?.topLogprobs;
  return {
    id,
    provenance: Provenance.PROVENANCE_PLAIN,
    logprob: count === undefined ? undefined : -0.25 * (index + 1),
    top: Array.from(
      { length: count ?? 0 },
      (_, i) => ({ id: id + i, logprob: -0.25 - i }),
    ),
  };
}

function finished(reason: FinishReason): DecodeEvent {
  return {
    event: {
      $case: "finished",
      value: { reason, preemptions: 0, stopTokenId: undefined },
    },
  };
}

function cancelled(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true })
  );
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
