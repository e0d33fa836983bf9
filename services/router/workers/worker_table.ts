import type { Clock } from "../../../lib/bus/clock.ts";
import type {
  WorkerChange,
  WorkerModel,
  WorkerRecord,
  WorkerRole,
} from "../../../lib/bus/types.ts";

/** One worker as this router sees it. */
export interface Worker {
  readonly record: WorkerRecord;
  /** Sequences this router has on it now, of all models. */
  readonly inFlight: number;
  /** false while a failed call, or a full queue, makes us avoid it. */
  readonly trusted: boolean;
  /**
   * Sequences on it for that model: what it reported last (every router's
   * sequences, up to a second old) plus what we sent or finished since.
   */
  load(model: string): number;
  /** It has no sequence of any model. */
  readonly idle: boolean;
  /** The model, if it runs there. */
  served(model: string): WorkerModel | undefined;
}

/**
 * The live workers, from the bus, with what the bus cannot know in time: our own
 * sequences in flight, and workers that just failed us.
 *
 * A worker that died stays on the bus until its record expires (10 s). A failed
 * call therefore distrusts it at once, 0.5 s at first and doubling to 4 s; a
 * call that works or a new start of the worker ends that. All sequences of a
 * worker see it die, so what fails while it is distrusted counts no more.
 */
export class WorkerTable {
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<(change: WorkerChange) => void>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  apply(change: WorkerChange): void {
    if (change.kind === "gone") {
      this.#entries.delete(key(change.role, change.workerId));
    } else this.#put(change.record);
    this.#notify(change);
  }

  /** Called after each change, and when a distrusted worker may be tried again. */
  onChange(listener: (change: WorkerChange) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Workers of the role on which the model runs and takes new sequences. */
  serving(role: WorkerRole, model: string): Worker[] {
    const found: Worker[] = [];
    for (const entry of this.#entries.values()) {
      const { record } = entry;
      if (record.role !== role || record.draining) continue;
      if (entry.served(model) !== undefined) found.push(entry);
    }
    return found;
  }

  get(role: WorkerRole, workerId: string): Worker | undefined {
    return this.#entries.get(key(role, workerId));
  }

  /** A worker of that id is there, in whatever role and state. */
  isLive(workerId: string): boolean {
    return this.get("decode", workerId) !== undefined ||
      this.get("prefill", workerId) !== undefined;
  }

  /** Counts sequences until disposed. */
  begin(worker: Worker, model: string, count = 1): Disposable {
    const entry = worker as Entry;
    entry.change(model, count);
    let open = true;
    return {
      [Symbol.dispose]: () => {
        if (!open) return;
        open = false;
        entry.change(model, -count);
      },
    };
  }

  /** A call worked: forget earlier failures. */
  trust(worker: Worker): void {
    const entry = worker as Entry;
    entry.failureCount = 0;
    const distrust = entry.aside.get("failed");
    if (distrust === undefined) return;
    distrust[Symbol.dispose]();
    entry.aside.delete("failed");
    this.#tellAgain(entry);
  }

  /**
   * The worker said that one of its models is leaving: its other models are as good as
   * before. Until its record says so too, or a moment has passed, we do not ask it for this one.
   */
  avoid(worker: Worker, model: string): void {
    const entry = worker as Entry;
    entry.leaving.add(model);
    this.#clock.setTimer(500, () => {
      if (!entry.leaving.delete(model)) return;
      this.#tellAgain(entry);
    });
  }

  /** A call failed as if the worker were dead; one that hangs is avoided for `hangMs`. */
  distrust(worker: Worker, hangMs = 0): void {
    const entry = worker as Entry;
    if (entry.aside.has("failed")) return;
    const delayMs = Math.min(4_000, 500 * 2 ** entry.failureCount++);
    this.#setAside(entry, "failed", Math.max(delayMs, hangMs));
    if (hangMs === 0) return;
    for (const listener of [...entry.hangListeners]) listener(hangMs);
  }

  /** Called with the silence in ms when a call of the worker was given up for it. */
  onHang(worker: Worker, listener: (silentMs: number) => void): Disposable {
    const { hangListeners } = worker as Entry;
    hangListeners.add(listener);
    return { [Symbol.dispose]: () => void hangListeners.delete(listener) };
  }

  /** Its queue was full, which is no failure: it is as good as before in a moment. */
  spare(worker: Worker): void {
    const entry = worker as Entry;
    if (!entry.aside.has("full")) this.#setAside(entry, "full", fullMs);
  }

  #setAside(entry: Entry, why: Aside, delayMs: number): void {
    const timer = this.#clock.setTimer(delayMs, () => {
      entry.aside.delete(why);
      this.#tellAgain(entry);
    });
    entry.aside.set(why, timer);
  }

  /** It may be asked again, if it is still there. */
  #tellAgain(entry: Entry): void {
    const { role, workerId } = entry.record;
    if (this.#entries.get(key(role, workerId)) !== entry) return;
    this.#notify({ kind: "put", record: entry.record });
  }

  #put(record: WorkerRecord): void {
    const name = key(record.role, record.workerId);
    const known = this.#entries.get(name);
    // A restarted worker holds none of our sequences and deserves trust again.
    if (
      known === undefined || known.record.startedAtMs !== record.startedAtMs
    ) {
      this.#entries.set(name, new Entry(record));
    } else {
      known.renew(record);
    }
  }

  #notify(change: WorkerChange): void {
    for (const listener of this.#listeners) listener(change);
  }
}

/** How long a worker with a full queue is left alone; its records come each second. */
const fullMs = 250;

type Aside = "failed" | "full";

class Entry implements Worker {
  record: WorkerRecord;
  inFlight = 0;
  failureCount = 0;
  /** Why it is not asked now, and what ends that. */
  readonly aside = new Map<Aside, Disposable>();
  /** Of calls that wait on it. */
  readonly hangListeners = new Set<(silentMs: number) => void>();
  /** Models it refused although its record still says that they run. */
  readonly leaving = new Set<string>();
  /** Our sequences per model: now, and when the record arrived. */
  readonly #own = new Map<string, { now: number; atRecord: number }>();

  constructor(record: WorkerRecord) {
    this.record = record;
  }

  get trusted(): boolean {
    return this.aside.size === 0;
  }

  renew(record: WorkerRecord): void {
    this.record = record;
    // The record caught up with what the worker told us itself.
    for (const model of [...this.leaving]) {
      const state = record.models.find((each) => each.model === model)?.state;
      if (state !== "running") this.leaving.delete(model);
    }
    for (const own of this.#own.values()) own.atRecord = own.now;
  }

  served(model: string): WorkerModel | undefined {
    if (this.leaving.has(model)) return undefined;
    return this.record.models.find((entry) =>
      entry.model === model && entry.state === "running"
    );
  }

  load(model: string): number {
    const own = this.#own.get(model) ?? { now: 0, atRecord: 0 };
    const served = this.served(model);
    const reported = (served?.running ?? 0) + (served?.waiting ?? 0);
    return Math.max(own.now, reported + own.now - own.atRecord);
  }

  get idle(): boolean {
    return this.inFlight === 0 &&
      this.record.models.every(({ model }) => this.load(model) === 0);
  }

  change(model: string, by: number): void {
    const own = this.#own.get(model) ?? { now: 0, atRecord: 0 };
    own.now += by;
    this.#own.set(model, own);
    this.inFlight += by;
  }
}

function key(role: WorkerRole, workerId: string): string {
  return `${role}.${workerId}`;
}
