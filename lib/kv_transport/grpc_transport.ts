/**
 * Blocks come in the stream of `Prefill.Run` itself or, when both workers are on one
 * host, through memory they share; the stream then only says which.
 */
import type { Token } from "../../proto/gen/quetzal/v1/common.ts";
import {
  type KvSharedBlocks,
  type PrefillEvent,
  type PrefillRequest,
} from "../../proto/gen/quetzal/v1/prefill.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { callStream } from "../rpc/mod.ts";
import { BlockReceiver } from "./block_receiver.ts";
import { PrefillClients } from "./prefill_clients.ts";
import {
  SharedArenas,
  type SharedArenasOptions,
  type SharedRoom,
} from "./shared_arena.ts";
import { StallWatch } from "./stall_watch.ts";
import type {
  KvLayout,
  KvPull,
  KvPulled,
  KvTransport,
  PullFailure,
} from "./types.ts";
import { type Crc32c, kvDtypes } from "./wire_block.ts";

export interface GrpcTransportOptions {
  readonly crc32c: Crc32c;
  /** Longest silence before a transfer is given up, ms; 2000 unless set. */
  readonly stallMs?: number;
  /** Longest wait for a block from a worker that is alive, ms; 30000 unless set. */
  readonly blockWaitMs?: number;
  /** A connection without transfers is closed after this, ms; 60000 unless set. */
  readonly idleMs?: number;
  /**
   * A worker that was silent or unreachable is not asked again for this long, ms;
   * 3000 unless set. Else each request would wait for its own stall.
   */
  readonly cooldownMs?: number;
  /** Shared memory with prefill workers of this host; none unless set. */
  readonly shared?: SharedArenasOptions;
}

export class GrpcKvTransport implements KvTransport {
  readonly #crc32c: Crc32c;
  readonly #stallMs: number;
  readonly #blockWaitMs: number;
  readonly #cooldownMs: number;
  readonly #clients: PrefillClients;
  readonly #arenas: SharedArenas | undefined;
  readonly #coolUntilMs = new Map<string, number>();

  constructor(options: GrpcTransportOptions) {
    this.#crc32c = options.crc32c;
    this.#stallMs = options.stallMs ?? 2_000;
    this.#blockWaitMs = options.blockWaitMs ?? 30_000;
    this.#cooldownMs = options.cooldownMs ?? 3_000;
    this.#arenas = options.shared && new SharedArenas(options.shared);
    this.#clients = new PrefillClients({
      idleMs: options.idleMs ?? 60_000,
      // Addresses of workers come and go; what we share with one goes with its connection.
      closed: (address) => this.#arenas?.forget(address),
    });
  }

  /** Connections held now. */
  get connectionCount(): number {
    return this.#clients.count;
  }

  async pull(request: KvPull, signal: AbortSignal): Promise<KvPulled> {
    signal.throwIfAborted();
    const { address, layout, haveTokens, prompt } = request;
    const missing = Math.ceil(prompt.tokenIds.length / layout.blockTokens) -
      haveTokens / layout.blockTokens;
    if (this.#isCooling(address)) {
      return new Transfer(request, this.#crc32c).result({
        reason: "cooldown",
        message: `${address} failed within the last ${this.#cooldownMs} ms`,
      });
    }
    const room = this.#arenas?.take(address, missing * layout.blockBytes);
    const transfer = new Transfer(request, this.#crc32c, room);
    try {
      const failure = await this.#run(request, transfer, room, signal);
      if (failure?.reason === "stalled" || failure?.reason === "unavailable") {
        this.#coolUntilMs.set(address, performance.now() + this.#cooldownMs);
      }
      return transfer.result(failure);
    } finally {
      room?.release(transfer.roomState);
    }
  }

  async #run(
    request: KvPull,
    transfer: Transfer,
    room: SharedRoom | undefined,
    signal: AbortSignal,
  ): Promise<PullFailure | undefined> {
    const controller = new AbortController();
    const stop = () => controller.abort(signal.reason);
    signal.addEventListener("abort", stop);
    using lease = this.#clients.lease(request.address);
    using watch = new StallWatch({
      stallMs: this.#stallMs,
      blockWaitMs: this.#blockWaitMs,
      giveUp: () => controller.abort(new Error("stalled")),
    });
    try {
      const events = callStream(
        lease.client.run.bind(lease.client),
        toPrefillRequest(request, room),
        { signal: controller.signal },
      );
      for await (const { event } of events) {
        const isBlock = event?.$case === "block" ||
          event?.$case === "sharedBlocks";
        if (isBlock) watch.heardBlock();
        else watch.heard();
        const failure = transfer.take(event);
        if (failure !== undefined) return failure;
      }
      return transfer.endOfStream();
    } catch (reason) {
      signal.throwIfAborted();
      return transfer.done ? undefined : watch.failure ?? broken(reason);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  #isCooling(address: string): boolean {
    const untilMs = this.#coolUntilMs.get(address);
    if (untilMs === undefined) return false;
    if (performance.now() < untilMs) return true;
    this.#coolUntilMs.delete(address);
    return false;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#clients[Symbol.dispose]();
    this.#arenas?.[Symbol.dispose]();
    return Promise.resolve();
  }
}

/** What one pull has seen so far. */
class Transfer {
  readonly #receiver: BlockReceiver;
  readonly #layout: KvLayout;
  readonly #firstBlock: number;
  readonly #room: SharedRoom | undefined;
  #sharedCount = 0;
  #firstToken: Token | undefined;
  #done = false;

  constructor(
    { layout, prompt, haveTokens, blockBytes }: KvPull,
    crc32c: Crc32c,
    room?: SharedRoom,
  ) {
    this.#layout = layout;
    this.#firstBlock = haveTokens / layout.blockTokens;
    this.#room = room;
    const tokenCount = prompt.tokenIds.length;
    this.#receiver = new BlockReceiver({
      layout,
      tokenCount,
      haveTokens,
      blockBytes,
      crc32c,
    });
  }

  get done(): boolean {
    return this.#done;
  }

  take(event: PrefillEvent["event"]): PullFailure | undefined {
    if (event === undefined) return undefined;
    if (this.#done) {
      return protocolFailure(`"${event.$case}" came behind the end`);
    }
    switch (event.$case) {
      case "block":
        return this.#receiver.accept(event.value);
      case "sharedBlocks":
        return this.#takeShared(event.value);
      case "error": {
        const { code, message } = event.value;
        return { reason: "refused", message: `${message} (code ${code})` };
      }
      case "done":
        if (!this.#receiver.complete) {
          return protocolFailure(
            `it ended after ${this.#receiver.tokens} tokens`,
          );
        }
        this.#firstToken = event.value.firstToken;
        this.#done = true;
        return undefined;
    }
  }

  /** Copies block by block into memory of our own, and checks that. */
  #takeShared(blocks: KvSharedBlocks): PullFailure | undefined {
    const room = this.#room;
    if (room === undefined) {
      return protocolFailure("it names shared memory that was not offered");
    }
    room.used();
    const { blockBytes, blockTokens } = this.#layout;
    const { crc32c: checksums, ...header } = blocks;
    try {
      for (let i = 0; i < checksums.length; i++) {
        const isLast = i === checksums.length - 1;
        const blockIndex = blocks.blockIndex + i;
        const failure = this.#receiver.acceptFrom(
          {
            ...header,
            blockIndex,
            tokenCount: isLast ? blocks.tokenCount : blockTokens,
            crc32c: checksums[i],
          },
          (target) =>
            room.read(target, (blockIndex - this.#firstBlock) * blockBytes),
        );
        if (failure !== undefined) return failure;
        this.#sharedCount++;
      }
    } catch (reason) {
      return protocolFailure((reason as Error).message);
    }
    return undefined;
  }

  /** What became of the room: see `SharedRoom.release()`. */
  get roomState(): "done" | "unused" | "failed" {
    if (!this.#done) return "failed";
    return this.#sharedCount > 0 ? "done" : "unused";
  }

  endOfStream(): PullFailure | undefined {
    return this.#done ? undefined : protocolFailure("it ended without `done`");
  }

  result(failure: PullFailure | undefined): KvPulled {
    const { tokens, blocks, bytes } = this.#receiver;
    const firstToken = failure === undefined ? this.#firstToken : undefined;
    return { tokens, firstToken, blocks, bytes, failure };
  }
}

function protocolFailure(found: string): PullFailure {
  return { reason: "protocol", message: `Cannot use the KV stream: ${found}` };
}

function broken(reason: unknown): PullFailure {
  const error = MeshError.from(reason);
  const gone = error.code === Code.unavailable || error.code === Code.cancelled;
  return { reason: gone ? "unavailable" : "refused", message: error.message };
}

function toPrefillRequest(
  { layout, prompt, haveTokens }: KvPull,
  room: SharedRoom | undefined,
): PrefillRequest {
  return {
    requestId: prompt.requestId,
    model: prompt.model,
    promptIds: Array.from(prompt.tokenIds),
    sampling: prompt.sampling,
    haveTokens,
    modelFingerprint: layout.fingerprint,
    blockTokens: layout.blockTokens,
    kvDtype: kvDtypes[layout.kvType],
    emittedCount: prompt.emittedCount,
    sharedMemory: room?.offer,
  };
}
