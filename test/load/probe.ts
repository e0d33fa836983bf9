/** What the engine's and the peer's probes are asked, and what they answer. */
import { readFileSync } from "node:fs";

export interface ProbeRequest {
  readonly model: string;
  readonly threads: number;
  /** Tokens of the prompt, and generated behind it. */
  readonly prompt: number;
  readonly generated: number;
  /** 0: only the first token of the process. */
  readonly rounds: number;
  /** Numbers of sequences that decode together. */
  readonly batches: readonly number[];
  /** Tokens of a long context to decode behind; 0: none. */
  readonly long: number;
  /** When the process was started, by `Date.now()`. */
  readonly startedAtMs: number;
}

export interface ProbeResult {
  load_ms: number;
  /** From the start of the process to the first token after a prompt of 8. */
  first_token_ms: number;
  /** Highest resident memory until then. */
  first_rss_mb: number;
  prefill_tok_s: number[];
  decode_tok_s: number[];
  batch_tok_s: Record<number, number[]>;
  long_decode_tok_s?: number;
  long_prefill_tok_s?: number;
}

export function peakRssMb(): number {
  const status = readFileSync("/proc/self/status", "utf8");
  return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
}
