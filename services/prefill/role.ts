import { SharedFiles } from "../../lib/kv_transport/mod.ts";
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
  const sharedFiles = config.kvSharedFolder === undefined
    ? undefined
    : new SharedFiles(config.kvSharedFolder);
  return {
    close() {
      sharedFiles?.[Symbol.dispose]();
      return Promise.resolve();
    },
    service: prefillService({
      ...parts,
      sharedFiles,
      kvBufferBytesMax: config.kvBufferBytesMax,
      kvFaults: config.kvFaults,
      random: Math.random,
      die: () => process.kill(process.pid, "SIGKILL"),
    }),
  };
}
