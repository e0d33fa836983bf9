import { runWorker } from "../../lib/worker/mod.ts";
import { parseConfig } from "./config.ts";
import { prefillService } from "./server.ts";

const config = parseConfig(process.env);

await runWorker({
  role: "prefill",
  config,
  build({ log, ...parts }) {
    if (config.kvFaults.size > 0) {
      const faults = Object.fromEntries(config.kvFaults);
      log.warn(
        { faults },
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
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  },
});
process.exit(0);
