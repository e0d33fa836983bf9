import { GrpcKvTransport } from "../../lib/kv_transport/mod.ts";
import { runWorker, WorkerDirectory } from "../../lib/worker/mod.ts";
import { parseConfig } from "./config.ts";
import { decodeService } from "./server.ts";

const config = parseConfig(process.env);

await runWorker({
  role: "decode",
  config,
  build({ crc32c, log, ...parts }) {
    const { kvStallMs: stallMs, kvBlockWaitMs: blockWaitMs } = config;
    const transport = new GrpcKvTransport({ crc32c, stallMs, blockWaitMs });
    const prefillWorkers = new WorkerDirectory("prefill");
    return {
      service: decodeService({
        ...parts,
        transport,
        prefillWorkers,
        remoteTokensMin: config.remoteTokensMin,
        slowReaderMs: config.slowReaderMs,
      }),
      joined: (bus) =>
        prefillWorkers.follow(
          bus,
          (reason) =>
            log.error({ err: reason }, "Cannot follow the prefill workers"),
        ),
      async [Symbol.asyncDispose]() {
        prefillWorkers[Symbol.dispose]();
        await transport[Symbol.asyncDispose]();
      },
    };
  },
});
process.exit(0);
