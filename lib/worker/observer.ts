/** What the services tell about their work; `main.ts` connects it to logs and metrics. */
export interface WorkerObserver {
  /** Something a person may have to look at. */
  warn(message: string, details: Readonly<Record<string, unknown>>): void;
  /** A KV transfer ended early; what it lacks is computed here. */
  kvTransferFailed(reason: string): void;
  kvTransferred(bytes: number): void;
  tokens(
    counts: { readonly prompt?: number; readonly generated?: number },
  ): void;
}

export const silentObserver: WorkerObserver = {
  warn() {},
  kvTransferFailed() {},
  kvTransferred() {},
  tokens() {},
};
