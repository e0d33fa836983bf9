import type { SequenceEvent } from "../../engine/types.ts";
import type { ModelObserver, WorkerObserver } from "../observer.ts";

/** Keeps what it is told, for tests to look at. */
export class RecordingObserver implements WorkerObserver, ModelObserver {
  readonly warnings: {
    message: string;
    details: Readonly<Record<string, unknown>>;
  }[] = [];
  readonly failures: string[] = [];
  readonly events: SequenceEvent["kind"][] = [];
  transferredBytes = 0;
  promptCount = 0;
  embeddedCount = 0;

  warn(message: string, details: Readonly<Record<string, unknown>>): void {
    this.warnings.push({ message, details });
  }

  forModel(): ModelObserver {
    return this;
  }

  sequenceEvent({ kind }: SequenceEvent): void {
    this.events.push(kind);
  }

  promptDone(): void {
    this.promptCount++;
  }

  embedded(): void {
    this.embeddedCount++;
  }

  kvTransferFailed(reason: string): void {
    this.failures.push(reason);
  }

  kvTransferred(bytes: number): void {
    this.transferredBytes += bytes;
  }
}
