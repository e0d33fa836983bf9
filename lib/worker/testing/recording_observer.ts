import type { WorkerObserver } from "../observer.ts";

/** Keeps what it is told, for tests to look at. */
export class RecordingObserver implements WorkerObserver {
  readonly warnings: {
    message: string;
    details: Readonly<Record<string, unknown>>;
  }[] = [];
  readonly failures: string[] = [];
  transferredBytes = 0;
  promptTokens = 0;
  generatedTokens = 0;

  warn(message: string, details: Readonly<Record<string, unknown>>): void {
    this.warnings.push({ message, details });
  }

  kvTransferFailed(reason: string): void {
    this.failures.push(reason);
  }

  kvTransferred(bytes: number): void {
    this.transferredBytes += bytes;
  }

  tokens(
    { prompt = 0, generated = 0 }: { prompt?: number; generated?: number },
  ): void {
    this.promptTokens += prompt;
    this.generatedTokens += generated;
  }
}
