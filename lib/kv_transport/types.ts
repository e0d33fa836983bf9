import type {
  SamplingParams,
  Token,
} from "../../proto/gen/quetzal/v1/common.ts";
import type { KvType } from "../engine/native.ts";
import type { BlockFaultReason } from "./wire_block.ts";

/**
 * How KV blocks get from a prefill worker to a decode worker.
 *
 * The decode worker pulls. A transport delivers blocks in order into places the
 * engine names and stops at the first thing that is off: what it reports as
 * complete was verified, everything behind it is computed by the caller. A
 * transport never throws for what the other side did; it throws the signal's
 * reason when the caller gave up.
 */
export interface KvTransport extends AsyncDisposable {
  pull(request: KvPull, signal: AbortSignal): Promise<KvPulled>;
}

/** What both sides must agree on before a block means anything. */
export interface KvLayout {
  /** Names model and weights; another one's KV is noise to this model. */
  readonly fingerprint: string;
  readonly kvType: KvType;
  readonly blockTokens: number;
  readonly layers: number;
  /** Bytes of one block, all layers. */
  readonly blockBytes: number;
}

export interface KvPull {
  /** host:port of the prefill worker. */
  readonly address: string;
  readonly layout: KvLayout;
  readonly prompt: PullPrompt;
  /** Leading tokens that are here already, a multiple of blockTokens. */
  readonly haveTokens: number;
  /** Where block `index` of the sequence goes; what is not reported as complete may be anything. */
  blockBytes(index: number): Uint8Array;
}

/** The prompt as the prefill worker needs it to compute the same KV and first token. */
export interface PullPrompt {
  readonly requestId: string;
  readonly model: string;
  /** Prompt, then tokens that an earlier worker emitted. */
  readonly tokenIds: Int32Array;
  readonly emittedCount: number;
  readonly sampling: SamplingParams | undefined;
}

export interface KvPulled {
  /** Leading tokens whose KV is complete now, at least `haveTokens`. */
  readonly tokens: number;
  /** Present when everything arrived and the other side chose the first token. */
  readonly firstToken: Token | undefined;
  readonly blocks: number;
  readonly bytes: number;
  /** Why the pull ended early; absent when everything arrived. */
  readonly failure: PullFailure | undefined;
}

export interface PullFailure {
  readonly reason: PullFailureReason;
  readonly message: string;
}

/** Label values of `quetzal:kv_transfer_errors_total`. */
export type PullFailureReason =
  | BlockFaultReason
  /** The other side answered with an error. */
  | "refused"
  /** No connection, or the connection broke. */
  | "unavailable"
  /** Nothing was heard for too long. */
  | "stalled"
  /** The other side lives but has sent no block for too long. */
  | "slow"
  /** The stream ended before `done`, or with something else than promised. */
  | "protocol"
  /** The worker failed a moment ago and is left alone for a while. */
  | "cooldown";
