import { Code, MeshError } from "../errors/mesh_error.ts";

/**
 * Counts the calls that run and, once draining, lets no new one in.
 *
 * Calls that are still running when the drain's bound is reached end with the
 * abort reason `unavailable`: their caller runs them elsewhere. A worker has one
 * for all its calls, and each of its models one of its own.
 */
export class Admission {
  #running = 0;
  #draining = false;
  #endedAtMs = -Infinity;
  readonly #cut = new Set<AbortController>();
  readonly #idle = new Set<() => void>();
  readonly #leaving: (what: "refused" | "ended") => MeshError;

  /** @param leaving What calls are told once draining. */
  constructor(leaving = workerLeaves) {
    this.#leaving = leaving;
  }

  get draining(): boolean {
    return this.#draining;
  }

  get running(): number {
    return this.#running;
  }

  /** Time since the last call ended. */
  get idleMs(): number {
    return performance.now() - this.#endedAtMs;
  }

  /**
   * `using admitted = admission.enter(call.signal)`; its signal follows the given
   * one and is aborted too when a drain runs out of time. Throws `unavailable` while draining.
   */
  enter(signal: AbortSignal): Admitted {
    if (this.#draining) throw this.#leaving("refused");
    signal.throwIfAborted();
    const controller = new AbortController();
    const follow = () => controller.abort(signal.reason);
    signal.addEventListener("abort", follow);
    this.#cut.add(controller);
    this.#running++;
    return {
      signal: controller.signal,
      abort: (reason) => controller.abort(reason),
      [Symbol.dispose]: () => {
        signal.removeEventListener("abort", follow);
        this.#cut.delete(controller);
        this.#endedAtMs = performance.now();
        if (--this.#running === 0) this.#notifyIdle();
      },
    };
  }

  /** From now on nothing new comes in. */
  startDrain(): void {
    this.#draining = true;
  }

  /** Takes calls again: the drain was called off. */
  reopen(): void {
    this.#draining = false;
  }

  /** Resolves when nothing runs any more, or the signal is aborted; never rejects. */
  whenIdle(signal: AbortSignal): Promise<void> {
    if (this.#running === 0 || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        signal.removeEventListener("abort", done);
        this.#idle.delete(done);
        resolve();
      };
      this.#idle.add(done);
      signal.addEventListener("abort", done);
    });
  }

  /** Ends what still runs, in-band. */
  cutRunning(): void {
    for (const controller of this.#cut) {
      controller.abort(this.#leaving("ended"));
    }
  }

  #notifyIdle(): void {
    for (const done of [...this.#idle]) done();
  }
}

export interface Admitted extends Disposable {
  readonly signal: AbortSignal;
  /** Ends the call for a reason of its own. */
  abort(reason: unknown): void;
}

function workerLeaves(what: "refused" | "ended"): MeshError {
  return new MeshError(
    Code.unavailable,
    `The worker is draining: the sequence was ${what}, run it on another one`,
  );
}

/**
 * For calls of a model that is taken away while its worker stays. The field tells a router
 * that the worker itself is as good as before.
 */
export function modelLeaves(model: string) {
  return (what: "refused" | "ended") =>
    new MeshError(
      Code.unavailable,
      `Model "${model}" leaves this worker: the sequence was ${what}, run it on another one`,
      { field: "model" },
    );
}
