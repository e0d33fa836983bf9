import { GrpcKvTransport } from "../../lib/kv_transport/mod.ts";
import {
  type Role,
  type RoleParts,
  WorkerDirectory,
} from "../../lib/worker/mod.ts";
import type { DecodeConfig } from "./config.ts";
import { Pacer } from "./paced_events.ts";
import { decodeService } from "./server.ts";

/** What makes a worker process a decode worker. */
export function decodeRole(
  config: DecodeConfig,
  { crc32c, log, ...parts }: RoleParts,
): Role {
  const prefillWorkers = new WorkerDirectory("prefill");
  const transport = new GrpcKvTransport({
    crc32c,
    stallMs: config.kvStallMs,
    blockWaitMs: config.kvBlockWaitMs,
    shared: config.kvSharedFolder === undefined
      ? undefined
      : { folder: config.kvSharedFolder, bytes: config.kvSharedBytes },
  });
  const pacer = new Pacer({
    everyMs: config.tokenWaitMs,
    batchMin: config.tokenWaitBatch,
  });
  return {
    service: decodeService({
      ...parts,
      transport,
      prefillWorkers,
      remoteTokensMin: config.remoteTokensMin,
      slowReaderMs: config.slowReaderMs,
      pacer,
    }),
    joined(bus) {
      prefillWorkers.follow(
        bus,
        (reason) =>
          log.error({ err: reason }, "Cannot follow the prefill workers"),
      );
    },
    async close() {
      pacer[Symbol.dispose]();
      prefillWorkers[Symbol.dispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}
