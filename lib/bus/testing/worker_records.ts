import type { WorkerModel, WorkerRecord } from "../types.ts";

/** What a test's worker says of itself: a decode worker without models unless told otherwise. */
export function workerRecord(
  workerId: string,
  rest: Partial<WorkerRecord> = {},
): WorkerRecord {
  return {
    workerId,
    role: "decode",
    address: "10.0.0.1:50051",
    startedAtMs: 1_700_000_000_000,
    draining: false,
    memoryBytesTotal: 0,
    memoryBytesFree: 0,
    models: [],
    ...rest,
  };
}

/** One of its models: small, running and idle unless told otherwise. */
export function workerModel(
  model: string,
  rest: Partial<WorkerModel> = {},
): WorkerModel {
  return {
    model,
    state: "running",
    fingerprint: "f",
    contextLength: 1,
    blockTokens: 16,
    blocksTotal: 1,
    blocksFree: 1,
    running: 0,
    waiting: 0,
    weightBytes: 1,
    kvBytes: 0,
    prefillTokensPerS: 0,
    decodeTokensPerS: 0,
    ...rest,
  };
}
