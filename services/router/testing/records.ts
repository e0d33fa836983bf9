import type {
  WorkerModel,
  WorkerRecord,
  WorkerRole,
} from "../../../lib/bus/mod.ts";
import * as bus from "../../../lib/bus/testing/worker_records.ts";

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
  return bus.workerRecord(workerId, {
    address: `${workerId}:1`,
    startedAtMs: 1,
    models: [bus.workerModel("demo", {
      fingerprint: "f".repeat(32),
      contextLength: 1_024,
      blocksTotal: 100,
      blocksFree: 100,
      weightBytes: 0,
      ...model,
    })],
    ...fields,
  });
}
