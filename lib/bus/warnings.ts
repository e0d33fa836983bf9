/** What went wrong without anyone being told by an exception. */
export interface BusWarning {
  readonly kind: BusWarningKind;
  readonly message: string;
  /** Warnings of this kind so far, this one included. */
  readonly count: number;
  readonly cause?: unknown;
}

/**
 * - `malformed`: a message that is not one of ours arrived and was left out;
 * - `dropped`: a slow reader lost its oldest message, or a message could not be sent;
 * - `connection`: NATS was lost or found again, or does not answer yet;
 * - `registration`: a worker record could not be written; the next renewal tries again.
 */
export type BusWarningKind =
  | "malformed"
  | "dropped"
  | "connection"
  | "registration";

/** Counts all warnings; reports the 1st, 2nd, 4th, 8th … so that a flood stays readable. */
export class Warnings {
  readonly #counts = {
    malformed: 0,
    dropped: 0,
    connection: 0,
    registration: 0,
  };
  readonly #report: (warning: BusWarning) => void;

  constructor(report: (warning: BusWarning) => void = () => {}) {
    this.#report = report;
  }

  get counts(): Readonly<Record<BusWarningKind, number>> {
    return { ...this.#counts };
  }

  add(kind: BusWarningKind, message: string, cause?: unknown): void {
    const count = ++this.#counts[kind];
    const isRare = kind === "connection";
    if (isRare || (count & (count - 1)) === 0) {
      this.#report({ kind, message, count, cause });
    }
  }
}
