import type {
  WorkerModel,
  WorkerRecord,
  WorkerRole,
} from "../../../lib/bus/mod.ts";

export interface RecordFields
  extends Partial<Omit<WorkerRecord, "models" | "role">> {
  readonly role?: WorkerRole;
  readonly model?: Partial<WorkerModel>;
}

/** A worker record of a test that serves "demo". */
export function workerRecord(
  workerId: string,
  { model, ...fields }: RecordFields = {},
): WorkerRecord {
  return {
    workerId,
    role: "decode",
    address: `${workerId}:1`,
    startedAtMs: 1,
    draining: false,
    memoryBytesTotal: 0,
    memoryBytesFree: 0,
    models: [{
      model: "demo",
      state: "running",
      fingerprint: "f".repeat(32),
      contextLength: 1_024,
      blockTokens: 16,
      blocksTotal: 100,
      blocksFree: 100,
      running: 0,
      waiting: 0,
      weightBytes: 0,
      kvBytes: 0,
      prefillTokensPerS: 0,
      decodeTokensPerS: 0,
      ...model,
    }],
    ...fields,
  };
}
