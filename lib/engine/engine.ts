/**
 * The step loop: admit, plan, run the step in native code, hand out tokens.
 *
 * One loop owns the scheduler and all KV blocks. Calls from outside only add a
 * sequence, mark one as cancelled, or finish a fetch, and wake the loop. Blocks
 * are given out only between steps, so that no step reads what another sequence
 * writes; a block under a running step stays held until the step has ended. Where
 * the model can, the next step is queued before the tokens of the running one are
 * known; step_ahead.ts says when, and why blocks are safe then.
 */
import { Code, MeshError } from "../errors/mesh_error.ts";
import { blockTokens } from "./block_hash.ts";
import {
  checkFits,
  checkSequence,
  type SequenceLimits,
} from "./check_sequence.ts";
import { EventQueue } from "../event_queue/event_queue.ts";
import { Generation } from "./generation.ts";
import { KvFetches } from "./kv_fetches.ts";
import type { CudaDevice, KvType, NativeModel, StepOutput } from "./native.ts";
import { PrefixCache } from "./prefix_cache.ts";
import { embedSequence, PromptEmbedding } from "./prompt_embedding.ts";
import { PromptRun } from "./prompt_run.ts";
import {
  HiddenRows,
  readToken,
  type RunningStep,
  startStep,
  type StepOutcome,
} from "./running_step.ts";
import { Scheduler, type StepPlan } from "./scheduler.ts";
import { Sequence, type SequenceOwner, type StepFacts } from "./sequence.ts";
import { planAhead } from "./step_ahead.ts";
import { StepBatch } from "./step_batch.ts";
import { StepRates } from "./step_rates.ts";
import type {
  DeviceStatus,
  EmbedResult,
  EmbedSpec,
  Engine,
  EngineStatus,
  EngineToken,
  KvFetcher,
  PrefillProgress,
  PrefillResult,
  RunOptions,
  SequenceEvent,
  SequenceSpec,
  StepReport,
} from "./types.ts";

export interface StepEngineOptions {
  readonly model: NativeModel;
  readonly fingerprint: string;
  readonly kvType: KvType;
  readonly contextLength: number;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  /** The GPU that runs the model. */
  readonly device?: CudaDevice | undefined;
  readonly kvBlocks: number;
  readonly rowsMax: number;
  readonly runningMax: number;
  readonly waitingMax: number;
  readonly now: () => number;
  readonly onWarning: (message: string, cause?: unknown) => void;
}

/** How long a stopping engine waits for fetchers that were told to stop. */
const fetchersWaitMs = 5000;

type CacheListener = Parameters<Engine["onCacheChange"]>[0];

export class StepEngine implements Engine {
  readonly fingerprint: string;
  readonly kvType: KvType;
  readonly contextLength: number;
  readonly blockTokens = blockTokens;
  readonly kvBlockBytes: number;
  readonly layers: number;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly weightBytes: number;
  readonly kvBytes: number;

  readonly #model: NativeModel;
  readonly #cache: PrefixCache;
  readonly #scheduler: Scheduler;
  readonly #batch: StepBatch;
  readonly #fetches: KvFetches;
  readonly #limits: SequenceLimits;
  readonly #waitingMax: number;
  readonly #now: () => number;
  readonly #onWarning: (message: string, cause?: unknown) => void;
  readonly #rates = new StepRates();
  readonly #device: CudaDevice | undefined;
  readonly #cacheListeners = new Set<CacheListener>();
  readonly #stepListeners = new Set<(step: StepReport) => void>();
  #preemptionsNoted = 0;
  /** To be taken out at the next step boundary. */
  #cancelled: Sequence[] = [];
  /** Steps that listeners have not been told of, and who was chosen a token for. */
  readonly #finished: StepReport[] = [];
  readonly #chosenFor: Sequence[] = [];
  #arrivals = 0;
  #wakeLoop: (() => void) | undefined;
  /** Something came since the last look at what to do. */
  #isWoken = false;
  #disposing: Promise<void> | undefined;
  #closed = false;
  readonly #loop: Promise<void>;

  constructor(options: StepEngineOptions) {
    this.fingerprint = options.fingerprint;
    this.kvType = options.kvType;
    this.contextLength = options.contextLength;
    this.kvBlockBytes = options.model.kvBlockBytes;
    this.layers = options.layers;
    this.vocabSize = options.vocabSize;
    this.hiddenSize = options.hiddenSize;
    this.weightBytes = options.model.weightBytes;
    this.kvBytes = options.kvBlocks * options.model.kvBlockBytes;
    this.#model = options.model;
    this.#device = options.device;
    this.#cache = new PrefixCache(options.kvBlocks);
    this.#scheduler = new Scheduler({ ...options, cache: this.#cache });
    this.#batch = new StepBatch(options);
    this.#limits = { ...options, blocksTotal: options.kvBlocks };
    this.#waitingMax = options.waitingMax;
    this.#now = options.now;
    this.#onWarning = options.onWarning;
    this.#fetches = new KvFetches({
      blockBytes: this.#blockBytes,
      onWarning: options.onWarning,
    });
    this.#loop = this.#runSteps();
  }

  status(): EngineStatus {
    return {
      blocksTotal: this.#cache.total,
      blocksFree: this.#cache.availableCount,
      running: this.#scheduler.running.length,
      waiting: this.#scheduler.waiting.length,
      prefillTokensPerS: this.#rates.prefillTokensPerS,
      decodeTokensPerS: this.#rates.decodeTokensPerS,
    };
  }

  device(): DeviceStatus | undefined {
    if (!this.#device) return undefined;
    const { name, memoryBytes } = this.#device;
    const { fault } = this.#model;
    return { name, memoryBytes, bytesPerS: this.#rates.bytesPerS, fault };
  }

  generate(
    spec: SequenceSpec,
    { signal, fetchKv }: { signal: AbortSignal; fetchKv?: KvFetcher },
  ): AsyncIterable<SequenceEvent> {
    return {
      [Symbol.asyncIterator]: () => this.#generate(spec, signal, fetchKv),
    };
  }

  run(spec: SequenceSpec, options: RunOptions): Promise<void> {
    return this.#run(spec, options).ended;
  }

  prefill(
    spec: SequenceSpec,
    options: {
      signal: AbortSignal;
      onBlocks?: (progress: PrefillProgress) => void;
    },
  ): Promise<PrefillResult> {
    const owner = new PromptRun({
      now: this.#now,
      onBlocks: options.onBlocks,
      blockBytes: this.#blockBytes,
      release: (blockIds) => this.#releasePrompt(blockIds),
    });
    this.#enter(
      spec,
      spec.promptIds.length + spec.emittedIds.length,
      owner,
      options,
    );
    return owner.result;
  }

  embed(
    spec: EmbedSpec,
    options: { signal: AbortSignal },
  ): Promise<EmbedResult> {
    const owner = new PromptEmbedding({ now: this.#now });
    this.#enter(embedSequence(spec), spec.promptIds.length, owner, options);
    return owner.result;
  }

  onCacheChange(listener: CacheListener): Disposable {
    this.#cacheListeners.add(listener);
    return {
      [Symbol.dispose]: () => void this.#cacheListeners.delete(listener),
    };
  }

  onStep(listener: (step: StepReport) => void): Disposable {
    this.#stepListeners.add(listener);
    return {
      [Symbol.dispose]: () => void this.#stepListeners.delete(listener),
    };
  }

  cachedHashes(): readonly string[] {
    return this.#cache.hashes();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposing ??= this.#dispose();
  }

  // Arrival and departure

  #generate(
    spec: SequenceSpec,
    signal: AbortSignal,
    fetchKv: KvFetcher | undefined,
  ): EventQueue<SequenceEvent> {
    let cancel = () => {};
    const events = new EventQueue<SequenceEvent>(() => cancel());
    const { sequence, ended } = this.#run(spec, {
      signal,
      fetchKv,
      onEvent: (event) => events.push(event),
    });
    if (sequence) cancel = () => this.#cancel(sequence);
    ended.then(() => events.end(), (reason) => events.fail(reason));
    return events;
  }

  #run(
    spec: SequenceSpec,
    { onEvent, ...options }: RunOptions,
  ): { sequence: Sequence | undefined; ended: Promise<void> } {
    const owner = new Generation({
      contextLength: this.contextLength,
      now: this.#now,
      onEvent,
    });
    // The KV of the last token is never needed.
    const tokens = Math.min(
      spec.promptIds.length + spec.maxTokens - 1,
      this.contextLength,
    );
    const sequence = this.#enter(spec, tokens, owner, options);
    return { sequence, ended: owner.ended };
  }

  /** Queues a sequence that will grow to `tokens`; a refusal goes to its owner. */
  #enter(
    spec: SequenceSpec,
    tokens: number,
    owner: SequenceOwner,
    { signal, fetchKv }: { signal: AbortSignal; fetchKv?: KvFetcher },
  ): Sequence | undefined {
    try {
      if (this.#disposing) throw stopping(spec.requestId);
      signal.throwIfAborted();
      checkSequence(spec, this.#limits);
      checkFits(spec, tokens, this.#limits);
      const sequence = new Sequence({
        order: this.#arrivals++,
        spec,
        fingerprint: this.fingerprint,
        owner,
        fetchKv,
        arrivedMs: this.#now(),
      });
      if (!this.#scheduler.enqueue(sequence)) {
        throw this.#queueFull(spec.requestId);
      }
      this.#watch(sequence, signal);
      this.#wake();
      return sequence;
    } catch (error) {
      owner.failed(error);
    }
  }

  #watch(sequence: Sequence, signal: AbortSignal): void {
    const onAbort = () => {
      sequence.owner.failed(signal.reason);
      this.#cancel(sequence);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    sequence.onEnd = () => signal.removeEventListener("abort", onAbort);
  }

  #cancel(sequence: Sequence): void {
    if (sequence.phase === "ended" || sequence.cancelled) return;
    sequence.cancelled = true;
    if (sequence.phase === "waiting") this.#end(sequence);
    else {
      // While its KV is being fetched the blocks stay until the fetcher is done.
      this.#fetches.abort(sequence);
      this.#cancelled.push(sequence);
      this.#wake();
    }
  }

  #end(sequence: Sequence): void {
    if (sequence.phase === "ended") return;
    this.#scheduler.end(sequence);
    sequence.onEnd?.();
  }

  #queueFull(requestId: string): MeshError {
    return new MeshError(
      Code.resourceExhausted,
      `Cannot queue sequence "${requestId}": needs a place, all ${this.#waitingMax} are taken`,
      { retryAfterMs: 1000 },
    );
  }

  // The loop

  /**
   * Between the end of a step and the start of the next one nothing is awaited and no
   * one is told anything: cores that compute steps stand still meanwhile.
   */
  async #runSteps(): Promise<void> {
    let step: RunningStep | undefined;
    while (step || !this.#disposing) {
      step ??= this.#startNext();
      const ahead: RunningStep | undefined = step &&
        this.#startAhead(step.plan);
      this.#report();
      if (step) this.#finishStep(step.plan, await step.outcome);
      else if (!this.#isWoken) await this.#sleep();
      step = ahead;
    }
    this.#report();
  }

  #startNext(): RunningStep | undefined {
    this.#isWoken = false;
    this.#removeCancelled();
    this.#admit();
    const plan = this.#scheduler.plan();
    if (plan.rows === 0) return undefined;
    return startStep(this.#model, this.#batch, plan);
  }

  #startAhead(running: StepPlan): RunningStep | undefined {
    if (!this.#model.chainsSteps) return undefined;
    if (this.#disposing || this.#cancelled.length > 0) return undefined;
    const plan = planAhead(running, {
      scheduler: this.#scheduler,
      contextLength: this.contextLength,
    });
    return plan && startStep(this.#model, this.#batch, plan);
  }

  #finishStep(plan: StepPlan, outcome: StepOutcome): void {
    if (outcome.kind === "failed") {
      this.#failStep(plan, outcome.cause);
      return;
    }
    this.#rates.count(plan, outcome.output);
    this.#noteStep(plan);
    this.#handOut(plan, outcome.output);
  }

  /** Tells owners and listeners what happened since the last time. */
  #report(): void {
    for (const sequence of this.#chosenFor) this.#deliver(sequence);
    this.#chosenFor.length = 0;
    for (const step of this.#finished) this.#reportStep(step);
    this.#finished.length = 0;
    this.#reportCacheChange();
  }

  #deliver(sequence: Sequence): void {
    try {
      sequence.owner.deliver?.();
    } catch (reason) {
      sequence.owner.failed(reason);
      this.#cancel(sequence);
    }
  }

  #removeCancelled(): void {
    if (this.#cancelled.length === 0) return;
    const cancelled = this.#cancelled;
    this.#cancelled = [];
    for (const sequence of cancelled) {
      if (sequence.phase === "waiting" || sequence.phase === "running") {
        this.#end(sequence);
      }
    }
  }

  #admit(): void {
    const admitted = this.#scheduler.admit();
    for (const sequence of admitted) {
      sequence.cachedTokens = Math.min(sequence.kvCount, sequence.givenCount);
      sequence.transferredTokens = 0;
      sequence.admittedMs ??= this.#now();
      if (sequence.kvCount > 0) this.#progressed(sequence);
      if (sequence.phase === "fetching") this.#fetch(sequence);
    }
  }

  #handOut(plan: StepPlan, output: StepOutput): void {
    const step = {
      batchSize: plan.sequences.length,
      stepUs: Math.round(output.stepUs),
    };
    const hiddenRows = new HiddenRows(output, this.hiddenSize);
    let outRow = 0;
    for (let i = 0; i < plan.sequences.length; i++) {
      const sequence = plan.sequences[i];
      const rowCount = plan.rowCounts[i];
      const chooses = plan.isAhead || sequence.pendingCount === rowCount;
      const token = chooses ? readToken(output, outRow++, sequence) : undefined;
      const facts = chooses && sequence.owner.wantsHidden
        ? { ...step, hidden: hiddenRows.next() }
        : step;
      // It ended in the step before, while this one was queued already.
      if (sequence.phase === "ended") continue;
      if (sequence.cancelled) continue;
      this.#scheduler.advance(sequence, rowCount);
      if (this.#progressed(sequence) && token) {
        this.#choose(sequence, token, facts);
      }
    }
  }

  #choose(sequence: Sequence, token: EngineToken, step: StepFacts): void {
    this.#chosenFor.push(sequence);
    if (!sequence.owner.chosen(sequence, token, step)) this.#end(sequence);
  }

  /** The owner's callback is foreign code: its failure ends only this sequence. */
  #progressed(sequence: Sequence): boolean {
    try {
      sequence.owner.progressed(sequence);
      return true;
    } catch (error) {
      this.#fail(sequence, error);
      return false;
    }
  }

  #fail(sequence: Sequence, reason: unknown): void {
    sequence.owner.failed(reason);
    this.#end(sequence);
  }

  #failStep(plan: StepPlan, cause: unknown): void {
    // A step queued ahead fails with the one before it, which ended its sequences.
    const sequences = plan.sequences.filter(({ phase }) => phase !== "ended");
    if (sequences.length === 0) return;
    const detail = cause instanceof Error ? cause.message : String(cause);
    this.#onWarning(`A step of ${sequences.length} sequences failed`, cause);
    for (const sequence of sequences) {
      const message =
        `Cannot run sequence "${sequence.spec.requestId}": its step failed: ${detail}`;
      // A lost device is this worker's fault: another one can run the sequence.
      const code = this.#model.fault ? Code.unavailable : Code.internal;
      this.#fail(sequence, new MeshError(code, message, { cause }));
    }
  }

  #noteStep({ rows: tokens }: StepPlan): void {
    const { preemptionCount } = this.#scheduler;
    const preemptions = preemptionCount - this.#preemptionsNoted;
    this.#preemptionsNoted = preemptionCount;
    this.#finished.push({ tokens, preemptions });
  }

  #reportStep(step: StepReport): void {
    for (const listener of this.#stepListeners) {
      try {
        listener(step);
      } catch (error) {
        this.#onWarning("A listener to steps failed", error);
      }
    }
  }

  #reportCacheChange(): void {
    const change = this.#cache.takeChange();
    if (change === undefined) return;
    for (const listener of this.#cacheListeners) {
      try {
        listener(change);
      } catch (error) {
        this.#onWarning("A listener to cache changes failed", error);
      }
    }
  }

  #sleep(): Promise<void> {
    return new Promise((resolve) => this.#wakeLoop = resolve);
  }

  #wake(): void {
    this.#isWoken = true;
    const wake = this.#wakeLoop;
    this.#wakeLoop = undefined;
    wake?.();
  }

  // KV from elsewhere

  async #fetch(sequence: Sequence): Promise<void> {
    const result = await this.#fetches.start(sequence);
    if (sequence.cancelled || this.#disposing) {
      this.#end(sequence);
    } else {
      sequence.phase = "running";
      this.#accept(
        sequence,
        result?.tokens ?? sequence.kvCount,
        result?.firstToken,
      );
    }
    this.#wake();
  }

  /** Leading `tokens` tokens have their KV now. */
  #accept(
    sequence: Sequence,
    tokens: number,
    firstToken: EngineToken | undefined,
  ): void {
    // Without a first token the last token must be computed here for its logits.
    const kvTokens = firstToken
      ? tokens
      : Math.min(tokens, sequence.tokenCount - 1);
    const arrived = Math.max(0, kvTokens - sequence.kvCount);
    sequence.transferredTokens = arrived;
    this.#scheduler.advance(sequence, arrived);
    if (firstToken) {
      this.#choose(sequence, firstToken, { batchSize: 1, stepUs: 0 });
      this.#report();
    }
  }

  readonly #blockBytes = (blockId: number): Uint8Array => {
    if (this.#closed) {
      throw new MeshError(
        Code.unavailable,
        "Cannot reach a KV block: needs a running engine, this one has stopped",
      );
    }
    if (this.#model.kvBlock) return this.#model.kvBlock(blockId);
    const begin = blockId * this.kvBlockBytes;
    return this.#model.kv.subarray(begin, begin + this.kvBlockBytes);
  };

  #releasePrompt(blockIds: Int32Array): void {
    for (let i = blockIds.length - 1; i >= 0; i--) {
      this.#cache.release(blockIds[i]);
    }
    this.#wake();
  }

  // The end

  async #dispose(): Promise<void> {
    const sequences = [...this.#scheduler.running, ...this.#scheduler.waiting];
    for (const sequence of sequences) {
      sequence.owner.failed(stopping(sequence.spec.requestId));
      sequence.cancelled = true;
    }
    this.#fetches.abortAll();
    this.#wake();
    await this.#loop;
    await this.#fetches.settled(fetchersWaitMs);
    for (const sequence of sequences) this.#end(sequence);
    this.#closed = true;
    await this.#model.close();
  }
}

function stopping(requestId: string): MeshError {
  return new MeshError(
    Code.unavailable,
    `Cannot run sequence "${requestId}": needs a running engine, this one is stopping`,
  );
}
