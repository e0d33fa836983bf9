/**
 * One GPU and the requests on it.
 *
 * Prefills run one after the other; decodes of all models take turns, one step
 * each. So every sequence of the worker advances at the same pace: one token
 * per cycle, a cycle being the sum over models of stepMs + batch *
 * stepMsPerSequence. One virtual clock counts tokens, a sequence ends when the
 * clock reaches its token; nothing is computed per step. While prefills and
 * decodes are both there, prefills get `prefillShare` of the time.
 */
import type {
  NodeView,
  ResidentView,
  WorkerView,
} from "../../services/autoscaler/placement/mod.ts";
import type { ModelClass } from "./profile.ts";

export interface SimRequest {
  readonly arrivedMs: number;
  readonly model: number;
  /** Prompt, and what was generated before a crash. */
  promptTokens: number;
  /** Tokens still to generate. */
  outputTokens: number;
  /** How much longer its prompt takes than by its tokens; see the profile. */
  readonly prefillFactor: number;
  firstTokenMs: number;
  /** Virtual time of the worker at which it is done. */
  doneAtToken: number;
  joinedAtToken: number;
}

export interface Resident extends ResidentView {
  loading: boolean;
  sequences: number;
  decoding: number;
  lastUsedMs: number;
  wanted: boolean;
  /** Takes no new requests and goes when its last one ends. */
  leaving: boolean;
  readonly class: ModelClass;
}

export interface WorkerEvents {
  firstToken(request: SimRequest, nowMs: number): void;
  done(request: SimRequest, nowMs: number): void;
}

export class GpuWorker implements WorkerView {
  ready = false;
  draining = false;
  gone = false;
  dedicatedTo: number | undefined;
  weightsBytes = 0;
  sequences = 0;
  loadingUntilMs = 0;
  /** Invalidates events planned before the last change. */
  version = 0;
  busyMs = 0;
  readonly residents = new Map<number, Resident>();
  readonly #lanes: ReadonlyMap<number, Lane> | Lane;
  #updatedMs = 0;

  constructor(
    readonly id: number,
    readonly node: NodeView,
    readonly createdMs: number,
    readonly weightsBytesMax: number,
    readonly prefillShare: number,
    /** The model whose pod it is for life; absent in a pool. */
    readonly pod: number | undefined,
    /** Models whose engines run side by side on cores of their own; else all share. */
    sideBySide: readonly number[] = [],
  ) {
    this.dedicatedTo = pod;
    const lane = () =>
      new Lane(
        prefillShare,
        this.residents,
        (resident, nowMs) => this.#leave(resident, nowMs),
      );
    this.#lanes = sideBySide.length === 0
      ? lane()
      : new Map(sideBySide.map((model) => [model, lane()]));
  }

  addResident(model: number, modelClass: ModelClass, nowMs: number): Resident {
    const resident: Resident = {
      model,
      weightsBytes: modelClass.weightsBytes,
      loading: true,
      sequences: 0,
      decoding: 0,
      lastUsedMs: nowMs,
      wanted: true,
      leaving: false,
      class: modelClass,
    };
    this.residents.set(model, resident);
    this.weightsBytes += resident.weightsBytes;
    return resident;
  }

  removeResident(model: number): void {
    const resident = this.residents.get(model);
    if (!resident) return;
    this.residents.delete(model);
    this.weightsBytes -= resident.weightsBytes;
  }

  start(request: SimRequest, resident: Resident, nowMs: number): void {
    this.advance(nowMs);
    resident.sequences++;
    this.sequences++;
    this.#laneOf(request.model).start(request, resident);
  }

  /** When the next prefill or decode ends, as things are. */
  nextEventMs(): number {
    let soonestMs = Infinity;
    for (const lane of this.#all()) {
      soonestMs = Math.min(soonestMs, lane.nextEventInMs());
    }
    return this.#updatedMs + Math.max(0, soonestMs);
  }

  /** Moves the clocks to now. */
  advance(nowMs: number): void {
    const elapsedMs = nowMs - this.#updatedMs;
    this.#updatedMs = nowMs;
    if (elapsedMs <= 0 || this.sequences === 0) return;
    this.busyMs += elapsedMs;
    for (const lane of this.#all()) lane.advance(elapsedMs);
  }

  /** Advances to now and reports what ended. */
  run(nowMs: number, events: WorkerEvents): void {
    this.advance(nowMs);
    for (const lane of this.#all()) lane.run(nowMs, events);
  }

  /** Takes every request off, as a crash does; tokens emitted become prompt. */
  crash(nowMs: number): SimRequest[] {
    this.advance(nowMs);
    const lost = [...this.#all()].flatMap((lane) => lane.crash());
    this.sequences = 0;
    return lost.sort((a, b) => a.arrivedMs - b.arrivedMs);
  }

  #laneOf(model: number): Lane {
    return this.#lanes instanceof Lane ? this.#lanes : this.#lanes.get(model)!;
  }

  #all(): Iterable<Lane> {
    return this.#lanes instanceof Lane ? [this.#lanes] : this.#lanes.values();
  }

  #leave(resident: Resident, nowMs: number): void {
    resident.sequences--;
    resident.lastUsedMs = nowMs;
    this.sequences--;
  }
}

/** What runs one prefill at a time and one batch of decodes: a GPU, or an engine's own cores. */
class Lane {
  #tokens = 0;
  #cycleMs = 0;
  #headLeftMs = 0;
  #prefills: SimRequest[] = [];
  #decodes: SimRequest[] = [];

  constructor(
    readonly prefillShare: number,
    readonly residents: ReadonlyMap<number, Resident>,
    readonly onLeave: (resident: Resident, nowMs: number) => void,
  ) {}

  start(request: SimRequest, resident: Resident): void {
    if (this.#prefills.length === 0) {
      this.#headLeftMs = prefillWorkMs(request, resident);
    }
    this.#prefills.push(request);
  }

  nextEventInMs(): number {
    const { prefillRate, tokenRate } = this.#rates();
    const prefill = this.#prefills.length
      ? this.#headLeftMs / prefillRate
      : Infinity;
    const decode = this.#decodes.length
      ? (this.#decodes[0].doneAtToken - this.#tokens) / tokenRate
      : Infinity;
    return Math.min(prefill, decode);
  }

  advance(elapsedMs: number): void {
    const { prefillRate, tokenRate } = this.#rates();
    this.#tokens += elapsedMs * tokenRate;
    if (this.#prefills.length) this.#headLeftMs -= elapsedMs * prefillRate;
  }

  run(nowMs: number, events: WorkerEvents): void {
    while (this.#prefills.length && this.#headLeftMs <= 1e-6) {
      this.#finishPrefill(nowMs, events);
    }
    while (
      this.#decodes.length &&
      this.#decodes[0].doneAtToken <= this.#tokens + 1e-6
    ) {
      const request = popDone(this.#decodes);
      const resident = this.residents.get(request.model)!;
      resident.decoding--;
      this.#addCycle(resident, -1);
      this.onLeave(resident, nowMs);
      events.done(request, nowMs);
    }
  }

  crash(): SimRequest[] {
    for (const request of this.#decodes) {
      const emitted = Math.floor(this.#tokens - request.joinedAtToken);
      request.promptTokens += emitted;
      request.outputTokens = Math.max(1, request.outputTokens - emitted);
    }
    const lost = [...this.#decodes, ...this.#prefills];
    this.#decodes = [];
    this.#prefills = [];
    this.#cycleMs = 0;
    return lost;
  }

  #rates() {
    const both = this.#prefills.length > 0 && this.#decodes.length > 0;
    return {
      prefillRate: both ? this.prefillShare : 1,
      tokenRate: this.#decodes.length === 0
        ? 0
        : (both ? 1 - this.prefillShare : 1) / this.#cycleMs,
    };
  }

  #finishPrefill(nowMs: number, events: WorkerEvents): void {
    const request = this.#prefills.shift()!;
    const resident = this.residents.get(request.model)!;
    const next = this.#prefills[0];
    if (next) {
      this.#headLeftMs = prefillWorkMs(
        next,
        this.residents.get(next.model)!,
      );
    }
    events.firstToken(request, nowMs);
    request.outputTokens--;
    if (request.outputTokens <= 0) {
      this.onLeave(resident, nowMs);
      events.done(request, nowMs);
      return;
    }
    resident.decoding++;
    this.#addCycle(resident, 1);
    request.joinedAtToken = this.#tokens;
    request.doneAtToken = this.#tokens + request.outputTokens;
    pushDone(this.#decodes, request);
  }

  /** The cycle after one sequence of the model joined (1) or left (-1). */
  #addCycle(resident: Resident, change: 1 | -1): void {
    this.#cycleMs += change * resident.class.stepMsPerSequence;
    if (change === 1 && resident.decoding === 1) {
      this.#cycleMs += resident.class.stepMs;
    }
    if (change === -1 && resident.decoding === 0) {
      this.#cycleMs -= resident.class.stepMs;
    }
    // Sums of differences drift; an empty worker has an exact zero.
    if (this.#decodes.length === 0 && change === -1) this.#cycleMs = 0;
  }
}

function prefillWorkMs(request: SimRequest, resident: Resident): number {
  return (request.promptTokens / resident.class.prefillTokensPerS) * 1000 *
    request.prefillFactor;
}

function pushDone(heap: SimRequest[], request: SimRequest): void {
  let at = heap.push(request) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (heap[parent].doneAtToken <= request.doneAtToken) break;
    heap[at] = heap[parent];
    at = parent;
  }
  heap[at] = request;
}

function popDone(heap: SimRequest[]): SimRequest {
  const top = heap[0];
  const last = heap.pop()!;
  if (heap.length === 0) return top;
  let at = 0;
  while (true) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (
      child + 1 < heap.length &&
      heap[child + 1].doneAtToken < heap[child].doneAtToken
    ) child++;
    if (heap[child].doneAtToken >= last.doneAtToken) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = last;
  return top;
}
