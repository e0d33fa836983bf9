import { GrpcKvTransport } from "../../lib/kv_transport/mod.ts";
import {
  type Role,
  type RoleParts,
  WorkerDirectory,
} from "../../lib/worker/mod.ts";
import type { DecodeConfig } from "./config.ts";
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
  return {
    service: decodeService({
      ...parts,
      transport,
      prefillWorkers,
      remoteTokensMin: config.remoteTokensMin,
      slowReaderMs: config.slowReaderMs,
    }),
    joined(bus) {
      prefillWorkers.follow(
        bus,
        (reason) =>
          log.error({ err: reason }, "Cannot follow the prefill workers"),
      );
    },
    async close() {
      prefillWorkers[Symbol.dispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}
