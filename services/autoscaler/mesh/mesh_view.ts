import type {
  Bus,
  TrafficReport,
  WakeMessage,
  WorkerChange,
  WorkerRecord,
} from "../../../lib/bus/types.ts";
import { ModelTraffic } from "./model_traffic.ts";

export interface MeshViewOptions {
  readonly nowMs: () => number;
  /** After a (re)connection nothing is believed for this long; 3,000 unless set. */
  readonly settleMs?: number;
  readonly onWake?: (message: WakeMessage) => void;
  readonly onWorker?: (change: WorkerChange) => void;
}

/** Models that routers may speak of; names come from requests. */
const modelsMax = 10_000;

/**
 * What the mesh says of itself over NATS: workers, traffic, wakes.
 *
 * It is blind while NATS is away, and for a moment after it came back: reports
 * come once a second, and before every router had its turn silence says nothing.
 */
export class MeshView {
  readonly #options: Required<MeshViewOptions>;
  readonly #workers = new Map<string, WorkerRecord>();
  readonly #traffic = new Map<string, ModelTraffic>();
  #bus: Bus | undefined;
  #connectedSinceMs: number | undefined;

  constructor(options: MeshViewOptions) {
    this.#options = {
      settleMs: 3_000,
      onWake: () => {},
      onWorker: () => {},
      ...options,
    };
  }

  /** Follows the bus until `signal` aborts. */
  async follow(bus: Bus, signal: AbortSignal): Promise<void> {
    this.#bus = bus;
    const { nowMs, onWake, onWorker } = this.#options;
    await Promise.all([
      each(bus.watchWorkers(signal), (change) => {
        this.#takeWorker(change);
        onWorker(change);
      }),
      each(
        bus.subscribeTraffic(signal),
        (report: TrafficReport) =>
          this.traffic(report.model)?.report(report, nowMs()),
      ),
      each(bus.subscribeWake(signal), (message: WakeMessage) => {
        this.traffic(message.model)?.wake(message, nowMs());
        onWake(message);
      }),
    ]);
  }

  /** Whether NATS can be spoken to now. */
  get connected(): boolean {
    return this.#bus?.connected ?? false;
  }

  /** True while what we know may be old; call it at least once a second. */
  isBlind(): boolean {
    const nowMs = this.#options.nowMs();
    if (!this.connected) {
      this.#connectedSinceMs = undefined;
      return true;
    }
    this.#connectedSinceMs ??= nowMs;
    return nowMs - this.#connectedSinceMs < this.#options.settleMs;
  }

  workers(): readonly WorkerRecord[] {
    return [...this.#workers.values()];
  }

  /** `undefined` when more names were heard than any installation has models. */
  traffic(model: string): ModelTraffic | undefined {
    const known = this.#traffic.get(model);
    if (known || this.#traffic.size >= modelsMax) return known;
    const traffic = new ModelTraffic();
    this.#traffic.set(model, traffic);
    return traffic;
  }

  forget(model: string): void {
    this.#traffic.delete(model);
  }

  #takeWorker(change: WorkerChange): void {
    if (change.kind === "put") {
      this.#workers.set(change.record.workerId, change.record);
    } else this.#workers.delete(change.workerId);
  }
}

async function each<T>(
  items: AsyncIterable<T>,
  take: (item: T) => void,
): Promise<void> {
  for await (const item of items) take(item);
}
