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

export interface AcquireRequest extends RouteRequest {
  /**
   * The sequence had a place and lost it: it goes before all newcomers, past the
   * bound of the queue, and waits as long as its signal lets it.
   */
  readonly isReplay?: boolean;
}

/**
 * Finds a worker for each request, or holds it until there is one.
 *
 * The queue is first come, first served, over all models because a worker's cap
 * is; replays come first of all. A request no free worker can take (its context is
 * too long for them) does not block those behind it. Everything that may free a
 * place asks the queue again: a worker record, the end of a sequence, the end of a
 * distrust. So whoever waits could not be placed, and a newcomer that can be takes
 * nobody's place.
 */
export class Dispatcher implements Disposable {
  readonly #options: DispatcherOptions;
  /** Replays, then newcomers; each oldest first. */
  readonly #waiters: Waiter[] = [];
  readonly #queues = new Map<string, Queue>();
  readonly #subscription: Disposable;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#subscription = options.workers.onChange(() => this.#pump());
  }

  heldCount(model: string): number {
    return this.#queues.get(model)?.count ?? 0;
  }

  /** Throws resourceExhausted, unavailable, invalidArgument, or the signal's reason. */
  acquire(
    request: AcquireRequest,
    signal: AbortSignal,
  ): Promise<Lease> | Lease {
    signal.throwIfAborted();
    const placed = this.#place(request);
    if (placed !== undefined) return this.#lease(placed, request, 0);
    return this.#hold(request, signal);
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
    for (const { wakeTimer } of this.#queues.values()) {
      wakeTimer?.[Symbol.dispose]();
    }
    for (const waiter of [...this.#waiters]) waiter.fail(shuttingDown());
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
        this.#pump();
      },
    };
  }

  #hold(request: AcquireRequest, signal: AbortSignal): Promise<Lease> {
    const { clock, heldMax, holdMs } = this.#options;
    const { model, isReplay = false } = request;
    const queue = this.#queue(model);
    if (!isReplay && queue.count >= heldMax) throw this.#full(model);
    return new Promise((resolve, reject) => {
      const sinceMs = clock.nowMs();
      const leave = () => {
        timer?.[Symbol.dispose]();
        signal.removeEventListener("abort", abort);
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        queue.count--;
      };
      const waiter: Waiter = {
        request,
        isReplay,
        place: (placement) => {
          leave();
          resolve(this.#lease(placement, request, clock.nowMs() - sinceMs));
        },
        fail: (reason) => {
          leave();
          reject(reason);
        },
      };
      const abort = () => waiter.fail(signal.reason);
      signal.addEventListener("abort", abort);
      const timer = isReplay
        ? undefined
        : clock.setTimer(holdMs, () => waiter.fail(this.#late(request)));
      this.#enqueue(waiter);
      queue.count++;
      this.#keepAwake(queue);
    });
  }

  #enqueue(waiter: Waiter): void {
    const newcomer = waiter.isReplay
      ? this.#waiters.findIndex(({ isReplay }) => !isReplay)
      : -1;
    const at = newcomer < 0 ? this.#waiters.length : newcomer;
    this.#waiters.splice(at, 0, waiter);
  }

  /** Places whom it can. */
  #pump(): void {
    // Per kind: who needs this much context or more finds no place either.
    const noneFrom = new Map<string, number>();
    for (const waiter of [...this.#waiters]) {
      const { contextNeeded } = waiter.request;
      const kind = kindOf(waiter.request);
      if (contextNeeded >= (noneFrom.get(kind) ?? Infinity)) continue;
      try {
        const placement = this.#place(waiter.request);
        if (placement) waiter.place(placement);
        else noneFrom.set(kind, contextNeeded);
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
      if (queue.count === 0) return;
      const isServed = this.#waiters.every(({ request }) =>
        request.model !== queue.model ||
        capable(request, workers).flat().length > 0
      );
      if (!isServed) onWake(queue.model, queue.count);
      queue.wakeTimer = clock.setTimer(1_000, tick);
    };
    tick();
  }

  #queue(model: string): Queue {
    let queue = this.#queues.get(model);
    if (queue === undefined) {
      queue = { model, count: 0, wakeTimer: undefined };
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

/** Requests of one kind find a place on the same workers, but for their context. */
function kindOf({ model, task = "generate" }: RouteRequest): string {
  return `${task} ${model}`;
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

/** Who waits for one model. */
interface Queue {
  readonly model: string;
  count: number;
  wakeTimer: Disposable | undefined;
}

interface Waiter {
  readonly request: RouteRequest;
  readonly isReplay: boolean;
  place(placement: Placement): void;
  fail(reason: unknown): void;
}
