import type { Clock } from "../../../lib/bus/clock.ts";
import { Code } from "../../../lib/errors/mesh_error.ts";
import { RequestError } from "./request_error.ts";
import {
  capable,
  type Placement,
  route,
  type RouteOptions,
  type RouteRequest,
} from "./route.ts";

export interface DispatcherOptions extends RouteOptions {
  readonly clock: Clock;
  /** Requests held per model; one more is refused. */
  readonly heldMax: number;
  /** How long one is held for a worker. */
  readonly holdMs: number;
  /** Requests are held and no worker serves the model; called at once, then each second. */
  readonly onWake: (model: string, held: number) => void;
}

/** A place on workers until disposed: `using lease = await dispatcher.acquire(...)`. */
export interface Lease extends Placement, Disposable {
  /** Time spent in the queue, 0 when a worker was free at once. */
  readonly heldMs: number;
  /** The prompt's KV is complete: the prefill worker is free again. */
  prefillDone(): void;
}

/**
 * Finds a worker for each request, or holds it until there is one.
 *
 * A model's queue is first come, first served, except that a request no free
 * worker can take (its context is too long for them) does not block those
 * behind it. Everything that may free a place asks the queue again: a worker
 * record, the end of a sequence, the end of a distrust.
 */
export class Dispatcher implements Disposable {
  readonly #options: DispatcherOptions;
  readonly #queues = new Map<string, Queue>();
  readonly #subscription: Disposable;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#subscription = options.workers.onChange(() => this.#pumpAll());
  }

  heldCount(model: string): number {
    return this.#queues.get(model)?.waiters.length ?? 0;
  }

  get heldTotal(): number {
    let total = 0;
    for (const queue of this.#queues.values()) total += queue.waiters.length;
    return total;
  }

  /** Throws resourceExhausted, unavailable, invalidArgument, or the signal's reason. */
  acquire(request: RouteRequest, signal: AbortSignal): Promise<Lease> | Lease {
    signal.throwIfAborted();
    const queue = this.#queue(request.model);
    if (queue.waiters.length === 0) {
      const placed = this.#place(request);
      if (placed !== undefined) return this.#lease(placed, request, 0);
    }
    return this.#hold(queue, request, signal);
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
    for (const queue of this.#queues.values()) {
      queue.wakeTimer?.[Symbol.dispose]();
      for (const waiter of [...queue.waiters]) waiter.fail(shuttingDown());
    }
  }

  /** The best place now; throws when no worker's context is long enough. */
  #place(request: RouteRequest): Placement | undefined {
    const outcome = route(request, this.#options);
    if (outcome.kind === "too-long") {
      throw new RequestError(
        Code.invalidArgument,
        `Cannot place the request: needs a context of ${request.contextNeeded} tokens, ` +
          `the workers of "${request.model}" have ${outcome.contextLength}`,
        { reason: "context_length_exceeded" },
      );
    }
    return outcome.kind === "placed" ? outcome.placement : undefined;
  }

  #lease(
    placement: Placement,
    { model, sequenceCount }: RouteRequest,
    heldMs: number,
  ): Lease {
    const { workers } = this.#options;
    const running = workers.begin(placement.worker, model, sequenceCount);
    const prefilling = placement.prefill &&
      workers.begin(placement.prefill, model);
    return {
      ...placement,
      heldMs,
      prefillDone: () => prefilling?.[Symbol.dispose](),
      [Symbol.dispose]: () => {
        running[Symbol.dispose]();
        prefilling?.[Symbol.dispose]();
        this.#pump(this.#queue(model));
      },
    };
  }

  #hold(
    queue: Queue,
    request: RouteRequest,
    signal: AbortSignal,
  ): Promise<Lease> {
    const { clock, heldMax, holdMs } = this.#options;
    if (queue.waiters.length >= heldMax) throw this.#full(request.model);
    return new Promise((resolve, reject) => {
      const sinceMs = clock.nowMs();
      const leave = () => {
        timer[Symbol.dispose]();
        signal.removeEventListener("abort", abort);
        queue.waiters.splice(queue.waiters.indexOf(waiter), 1);
      };
      const waiter: Waiter = {
        request,
        place: (placement) => {
          leave();
          resolve(
            this.#lease(placement, request, clock.nowMs() - sinceMs),
          );
        },
        fail: (reason) => {
          leave();
          reject(reason);
        },
      };
      const abort = () => waiter.fail(signal.reason);
      signal.addEventListener("abort", abort);
      const timer = clock.setTimer(
        holdMs,
        () => waiter.fail(this.#late(request)),
      );
      queue.waiters.push(waiter);
      this.#keepAwake(queue);
    });
  }

  #pumpAll(): void {
    for (const queue of this.#queues.values()) this.#pump(queue);
  }

  #pump(queue: Queue): void {
    for (const waiter of [...queue.waiters]) {
      try {
        const placement = this.#place(waiter.request);
        if (placement) waiter.place(placement);
      } catch (reason) {
        waiter.fail(reason);
      }
    }
  }

  /** Tells the autoscaler each second while requests wait for a model without workers. */
  #keepAwake(queue: Queue): void {
    if (queue.wakeTimer !== undefined) return;
    const { clock, onWake, workers } = this.#options;
    const tick = () => {
      queue.wakeTimer = undefined;
      if (queue.waiters.length === 0) return;
      const isServed = queue.waiters.every(({ request }) =>
        capable(request, workers).flat().length > 0
      );
      if (!isServed) onWake(queue.model, queue.waiters.length);
      queue.wakeTimer = clock.setTimer(1_000, tick);
    };
    tick();
  }

  #queue(model: string): Queue {
    let queue = this.#queues.get(model);
    if (queue === undefined) {
      queue = { model, waiters: [], wakeTimer: undefined };
      this.#queues.set(model, queue);
    }
    return queue;
  }

  #full(model: string): RequestError {
    const { heldMax } = this.#options;
    return new RequestError(
      Code.resourceExhausted,
      `Cannot queue a request for "${model}": the queue holds ${heldMax} and is full`,
      { reason: "queue_full", retryAfterMs: 1_000 },
    );
  }

  #late(request: RouteRequest): RequestError {
    const { workers, holdMs } = this.#options;
    const { model } = request;
    const count = capable(request, workers).flat().length;
    if (count === 0) {
      return new RequestError(
        Code.unavailable,
        `Cannot serve "${model}": needs a worker, none came within ${holdMs} ms`,
        { reason: "no_worker", retryAfterMs: 5_000 },
      );
    }
    return new RequestError(
      Code.resourceExhausted,
      `Cannot serve "${model}": needs a free worker, ` +
        `${count} had no place within ${holdMs} ms`,
      { reason: "queue_full", retryAfterMs: 2_000 },
    );
  }
}

function shuttingDown(): RequestError {
  return new RequestError(
    Code.unavailable,
    "Cannot go on: the router shuts down",
    {
      reason: "no_worker",
      retryAfterMs: 1_000,
    },
  );
}

interface Queue {
  readonly model: string;
  /** Oldest first. */
  readonly waiters: Waiter[];
  wakeTimer: Disposable | undefined;
}

interface Waiter {
  readonly request: RouteRequest;
  place(placement: Placement): void;
  fail(reason: unknown): void;
}
