import type { Tracer } from "@opentelemetry/api";
import { systemClock } from "../../../lib/bus/mod.ts";
import { type Logger, withSpan } from "../../../lib/telemetry/mod.ts";
import { WorkQueue } from "../kube/mod.ts";
import type { ControllerMetrics } from "../metrics.ts";
import type { Context } from "./context.ts";
import { reconcileJob } from "./reconcile_job.ts";
import { reconcileModel } from "./reconcile_model.ts";
import { reconcilePool } from "./reconcile_pool.ts";

export interface ReconcilingOptions {
  readonly metrics: ControllerMetrics;
  readonly tracer: Tracer;
  readonly log: Logger;
  readonly random: () => number;
  /** Keys worked on at once; 8 unless set. */
  readonly workersMax?: number;
  /** There once the first key is added. */
  readonly context: () => Context;
  readonly onDone: (kind: string, name: string) => void;
}

const reconcilers: Readonly<
  Record<string, (name: string, context: Context) => Promise<number | void>>
> = { pool: reconcilePool, model: reconcileModel, job: reconcileJob };

/** Works on keys `kind/name`, one after another for each object. */
export class Reconciling implements AsyncDisposable {
  readonly #options: ReconcilingOptions;
  readonly #queue: WorkQueue;

  constructor(options: ReconcilingOptions) {
    this.#options = options;
    const { random, workersMax } = options;
    this.#queue = new WorkQueue({
      clock: systemClock,
      random,
      workersMax,
      work: (key) => this.#reconcile(key),
      onFailure: (key, reason, waitMs) => this.#failed(key, reason, waitMs),
    });
  }

  add(key: string): void {
    this.#queue.add(key);
  }

  /** Keys that are due or being worked on. */
  get depth(): number {
    return this.#queue.depth;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#queue[Symbol.asyncDispose]();
  }

  async #reconcile(key: string): Promise<number | void> {
    const { metrics, tracer, context, onDone } = this.#options;
    const [kind, ...rest] = key.split("/");
    const name = rest.join("/");
    const end = metrics.reconcileSeconds.startTimer({ kind });
    const againMs = await withSpan({
      tracer,
      name: `reconcile ${kind}`,
      attributes: { "k8s.object.name": name },
    }, () => reconcilers[kind](name, context()));
    end();
    metrics.reconciles.inc({ kind, outcome: "ok" });
    onDone(kind, name);
    return againMs;
  }

  #failed(key: string, reason: unknown, waitMs: number): void {
    const { metrics, log } = this.#options;
    const [kind] = key.split("/");
    metrics.reconciles.inc({ kind, outcome: "failed" });
    log.warn(
      { err: reason, key, waitMs: Math.round(waitMs) },
      "Cannot reconcile; trying again",
    );
  }
}
