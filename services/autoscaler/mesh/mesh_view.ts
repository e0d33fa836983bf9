import type {
  Bus,
  ModelEntry,
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
  /** Blind for longer than this is an outage; 20,000 unless set. */
  readonly outageMs?: number;
  /** Not asked for longer than this, we stood still ourselves; 3,000 unless set. */
  readonly awayMs?: number;
  /** Whether there is such a model: names come from requests. All are known unless set. */
  readonly knows?: (model: string) => boolean;
  readonly onWake?: (message: WakeMessage) => void;
  readonly onWorker?: (change: WorkerChange) => void;
  /** What routers know of a model changed. */
  readonly onEntry?: (model: string) => void;
}

/**
 * What the mesh says of itself over NATS: workers, traffic, wakes.
 *
 * It is blind while NATS is away, and for a moment after it came back: reports
 * come once a second, and before every router had its turn silence says nothing.
 * The same after we stood still ourselves (a process that was stopped, a machine
 * that was asleep): what waits in our socket is not known yet.
 */
export class MeshView {
  readonly #options: Required<MeshViewOptions>;
  readonly #workers = new Map<string, WorkerRecord>();
  readonly #traffic = new Map<string, ModelTraffic>();
  readonly #entries = new Map<string, ModelEntry>();
  #stirred = new Set<string>();
  #bus: Bus | undefined;
  #connectedSinceMs: number | undefined;
  #askedAtMs: number | undefined;
  #sawAtMs: number | undefined;

  constructor(options: MeshViewOptions) {
    this.#options = {
      settleMs: 3_000,
      outageMs: 20_000,
      awayMs: 3_000,
      knows: () => true,
      onWake: () => {},
      onWorker: () => {},
      onEntry: () => {},
      ...options,
    };
  }

  /** Follows the bus until `signal` aborts. */
  async follow(bus: Bus, signal: AbortSignal): Promise<void> {
    this.#bus = bus;
    const { nowMs, onWake, onWorker, onEntry } = this.#options;
    await Promise.all([
      each(bus.watchWorkers(signal), (change) => {
        this.#takeWorker(change);
        onWorker(change);
      }),
      each(bus.watchModels(signal), (change) => {
        const name = change.kind === "put" ? change.entry.model : change.model;
        if (change.kind === "put") this.#entries.set(name, change.entry);
        else this.#entries.delete(name);
        onEntry(name);
      }),
      each(
        bus.subscribeTraffic(signal),
        (report: TrafficReport) =>
          this.#heard(report.model)?.report(report, nowMs()),
      ),
      each(bus.subscribeWake(signal), (message: WakeMessage) => {
        this.#heard(message.model)?.wake(message, nowMs());
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
    const { awayMs, settleMs } = this.#options;
    const nowMs = this.#options.nowMs();
    const wasAway = nowMs - (this.#askedAtMs ?? nowMs) > awayMs;
    this.#askedAtMs = nowMs;
    if (!this.connected || wasAway) {
      this.#connectedSinceMs = this.connected ? nowMs : undefined;
      return true;
    }
    this.#connectedSinceMs ??= nowMs;
    return nowMs - this.#connectedSinceMs < settleMs;
  }

  /** How well we see: a start or a hiccup is `settling`, and worth no word to anybody. */
  get sight(): "clear" | "settling" | "outage" {
    const nowMs = this.#options.nowMs();
    this.#sawAtMs ??= nowMs;
    if (!this.isBlind()) {
      this.#sawAtMs = nowMs;
      return "clear";
    }
    const isOutage = nowMs - this.#sawAtMs > this.#options.outageMs;
    return isOutage ? "outage" : "settling";
  }

  workers(): readonly WorkerRecord[] {
    return [...this.#workers.values()];
  }

  /** What routers know of a model: its entry in the bucket `models`. */
  entry(model: string): ModelEntry | undefined {
    return this.#entries.get(model);
  }

  /** Tells routers of a model; nothing while NATS is away. */
  async putEntry(entry: ModelEntry): Promise<void> {
    if (!this.#bus?.connected) return;
    await this.#bus.putModel(entry);
    this.#entries.set(entry.model, entry);
  }

  /** The model becomes unknown to routers; nothing while NATS is away. */
  async removeEntry(model: string): Promise<void> {
    if (!this.#bus?.connected || !this.#entries.has(model)) return;
    await this.#bus.removeModel(model);
    this.#entries.delete(model);
  }

  /** `undefined` for a model that is not known. */
  traffic(model: string): ModelTraffic | undefined {
    const known = this.#traffic.get(model);
    if (known || !this.#options.knows(model)) return known;
    const traffic = new ModelTraffic();
    this.#traffic.set(model, traffic);
    return traffic;
  }

  forget(model: string): void {
    this.#traffic.delete(model);
    this.#stirred.delete(model);
  }

  /** Models with requests in routers or on workers, as told since the last call. */
  takeStirred(): ReadonlySet<string> {
    const stirred = this.#stirred;
    if (stirred.size > 0) this.#stirred = new Set();
    return stirred;
  }

  #heard(model: string): ModelTraffic | undefined {
    const traffic = this.traffic(model);
    if (traffic) this.#stirred.add(model);
    return traffic;
  }

  #takeWorker(change: WorkerChange): void {
    if (change.kind === "gone") {
      return void this.#workers.delete(change.workerId);
    }
    const { record } = change;
    this.#workers.set(record.workerId, record);
    for (const { model, running, waiting } of record.models) {
      if (running + waiting > 0) this.#stirred.add(model);
    }
  }
}

async function each<T>(
  items: AsyncIterable<T>,
  take: (item: T) => void,
): Promise<void> {
  for await (const item of items) take(item);
}
