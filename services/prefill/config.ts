import { type Env, readConfig } from "../../lib/config/mod.ts";
import {
  type KvFaultRates,
  parseKvFaults,
} from "../../lib/kv_transport/mod.ts";
import { readWorkerConfig, type WorkerConfig } from "../../lib/worker/mod.ts";

export interface PrefillConfig extends WorkerConfig {
  /** Bytes of KV copied ahead of a slow reader, per prompt. */
  readonly kvBufferBytesMax: number;
  /** Deliberate faults for tests; empty unless set. */
  readonly kvFaults: KvFaultRates;
}

/** Reads a plain record; all faults are reported together. */
export function parseConfig(env: Env): PrefillConfig {
  const options = {
    what: "the prefill worker",
    env,
    prefix: "QUETZAL_PREFILL_",
  };
  return readConfig(options, (reader) => {
    const kvFaults = parseKvFaults(reader.text("QUETZAL_FAULT_KV", ""));
    if (typeof kvFaults === "string") {
      reader.fault(`QUETZAL_FAULT_KV: ${kvFaults}`);
    }
    return {
      ...readWorkerConfig(reader, { role: "prefill", portDefault: 50_061 }),
      kvBufferBytesMax: reader.bytes(
        "QUETZAL_PREFILL_KV_BUFFER",
        [1, 2 ** 34],
        16 << 20,
      ),
      kvFaults: typeof kvFaults === "string" ? new Map() : kvFaults,
    };
  });
}
