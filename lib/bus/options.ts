import type { Bus } from "./types.ts";
import type { BusWarning, BusWarningKind } from "./warnings.ts";

export interface BusOptions {
  /** A worker not renewed for this long is gone; 10,000 unless set. */
  readonly workerTtlMs?: number;
  /** Messages kept for a slow reader before its oldest is dropped; 4,096 unless set. */
  readonly queueMax?: number;
  /** Told about what no exception reports; a flood is thinned, see `Warnings`. */
  readonly onWarning?: (warning: BusWarning) => void;
}

export const workerTtlMsDefault = 10_000;
export const queueMaxDefault = 4_096;

/** A `Bus` that also counts what it could not deliver. */
export interface MeshBus extends Bus {
  readonly warningCounts: Readonly<Record<BusWarningKind, number>>;
}
