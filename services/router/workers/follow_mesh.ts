import type { Bus, WorkerRecord } from "../../../lib/bus/mod.ts";
import type { Logger } from "../../../lib/telemetry/mod.ts";
import type { KvIndex } from "./kv_index.ts";
import type { TrafficMeter } from "./traffic_meter.ts";
import type { WorkerTable } from "./worker_table.ts";

export interface FollowMeshOptions {
  readonly bus: Bus;
  readonly workers: WorkerTable;
  readonly kvIndex: KvIndex;
  /** Told of addresses where nobody is any more. */
  readonly clients: readonly { drop(address: string): void }[];
  readonly traffic: TrafficMeter;
  readonly logger: Logger;
  /** The bus tells nothing more: what is known of the workers grows old. */
  readonly onFailed: (reason: unknown) => void;
}

/** Keeps table and index current with the bus, and reports traffic each second. */
export function followMesh(options: FollowMeshOptions): AsyncDisposable {
  const { bus, traffic, logger, onFailed } = options;
  const stop = new AbortController();
  const following = Promise.all([
    followWorkers(options, stop.signal),
    followKv(options, stop.signal),
  ]).catch((reason) => {
    if (stop.signal.aborted) return;
    logger.error({ err: reason }, "Following the mesh failed");
    onFailed(reason);
  });
  const timer = setInterval(() => {
    for (const report of traffic.take()) bus.publishTraffic(report);
  }, 1_000);
  timer.unref();
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      stop.abort();
      await following;
    },
  };
}

async function followWorkers(
  { bus, workers, kvIndex, clients }: FollowMeshOptions,
  signal: AbortSignal,
): Promise<void> {
  for await (const change of bus.watchWorkers(signal)) {
    const { role, workerId } = change.kind === "put" ? change.record : change;
    const before = workers.get(role, workerId)?.record;
    workers.apply(change);
    const now = workers.get(role, workerId)?.record;
    const restarted = before?.startedAtMs !== now?.startedAtMs;
    if (before !== undefined && restarted) kvIndex.forget(workerId);
    for (const model of gone(before, now)) kvIndex.forgetModel(workerId, model);
    if (now !== undefined && restarted) void kvIndex.repair(workerId);
    if (before !== undefined && before.address !== now?.address) {
      for (const each of clients) each.drop(before.address);
    }
  }
  throw ended("workers");
}

/** Models that ran there and do no more: their blocks are gone with them. */
function gone(
  before: WorkerRecord | undefined,
  now: WorkerRecord | undefined,
): string[] {
  const running = (record: WorkerRecord | undefined) =>
    record?.models.filter(({ state }) => state === "running")
      .map(({ model }) => model) ?? [];
  const still = new Set(running(now));
  return running(before).filter((model) => !still.has(model));
}

async function followKv(
  { bus, kvIndex }: FollowMeshOptions,
  signal: AbortSignal,
): Promise<void> {
  for await (const event of bus.subscribeKv(signal)) kvIndex.apply(event);
  throw ended("KV events");
}

function ended(what: string): Error {
  return new Error(
    `Cannot follow the mesh: the bus ended the watch of ${what}`,
  );
}
