import { KeyedChanges } from "./keyed_changes.ts";
import { workerKey } from "./subjects.ts";
import type { WorkerChange } from "./types.ts";

/** Changes of the workers for one reader, the newest of each worker. */
export class WorkerChanges extends KeyedChanges<WorkerChange> {
  constructor(onEnd: () => void) {
    super(keyOf, onEnd);
  }
}

function keyOf(change: WorkerChange): string {
  const { role, workerId } = change.kind === "put" ? change.record : change;
  return workerKey(role, workerId);
}
