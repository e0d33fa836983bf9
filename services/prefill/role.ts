import type { Role, RoleParts } from "../../lib/worker/mod.ts";
import type { PrefillConfig } from "./config.ts";
import { prefillService } from "./server.ts";

/** What makes a worker process a prefill worker. */
export function prefillRole(
  config: PrefillConfig,
  { log, ...parts }: RoleParts,
): Role {
  if (config.kvFaults.size > 0) {
    log.warn(
      { faults: Object.fromEntries(config.kvFaults) },
      "KV transfers are DELIBERATELY FAULTY: QUETZAL_FAULT_KV is set",
    );
  }
  return {
    service: prefillService({
      ...parts,
      kvBufferBytesMax: config.kvBufferBytesMax,
      kvFaults: config.kvFaults,
      random: Math.random,
      die: () => process.kill(process.pid, "SIGKILL"),
    }),
  };
}
