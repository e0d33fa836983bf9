/** Calls to `WorkerControl` of the workers of a mesh. */
import { type Bus, connectBus, type WorkerRecord } from "../../lib/bus/mod.ts";
import { Code, MeshError } from "../../lib/errors/mesh_error.ts";
import { callUnary, connect } from "../../lib/rpc/mod.ts";
import type { UrlSource } from "../../lib/model_source/mod.ts";
import {
  type ModelSource,
  type ModelStatus,
  type StatusResponse,
  WorkerControlClient,
} from "../../proto/gen/quetzal/v1/control.ts";
import { eventually } from "./ask.ts";
import type { Mesh } from "./start_mesh.ts";

export interface Control extends AsyncDisposable {
  readonly bus: Bus;
  /** Of all workers, as the bus tells them now. */
  records(): readonly WorkerRecord[];
  record(workerId: string): WorkerRecord;
  status(workerId: string): Promise<StatusResponse>;
  load(
    workerId: string,
    model: string,
    /** A path, or where else it comes from. */
    source: string | UrlSource,
    asleep?: boolean,
  ): Promise<ModelStatus>;
  /** `undefined`: the answer came too late, which on a busy machine it may. */
  unload(
    workerId: string,
    model: string,
    boundMs?: number,
  ): Promise<number | undefined>;
  sleep(
    workerId: string,
    model: string,
    boundMs?: number,
  ): Promise<ModelStatus | undefined>;
  wake(workerId: string, model: string): Promise<ModelStatus>;
  /** Resolves when the worker's record tells that state; `undefined`: not there. */
  waitForState(
    workerId: string,
    model: string,
    state: string | undefined,
  ): Promise<void>;
}

/** Resolves when `count` workers are known. */
export async function controlOf(mesh: Mesh, count: number): Promise<Control> {
  await using undo = new AsyncDisposableStack();
  const bus = undo.use(await connectBus({ url: mesh.nats.url, name: "test" }));
  const stop = new AbortController();
  undo.defer(() => stop.abort());
  const records = new Map<string, WorkerRecord>();
  const watching = follow(bus, records, stop.signal);
  watching.catch(() => {
    // Ended by the test.
  });
  const clients = new Map<string, WorkerControlClient>();
  undo.defer(() => clients.forEach((client) => client.close()));
  await eventually(() => Promise.resolve(records.size >= count || undefined));

  const record = (workerId: string) => {
    const found = records.get(workerId);
    if (found === undefined) throw new Error(`No worker ${workerId} is known`);
    return found;
  };
  const client = (workerId: string) => {
    const { address } = record(workerId);
    const known = clients.get(address) ?? connect(WorkerControlClient, address);
    clients.set(address, known);
    return known;
  };
  const until = (ms: number) => ({ deadlineMs: Date.now() + ms });

  const parts = undo.move();
  return {
    bus,
    records: () => [...records.values()],
    record,
    status(workerId) {
      const control = client(workerId);
      return callUnary(control.status.bind(control), {}, until(5_000));
    },
    load(workerId, model, from, asleep = false) {
      const control = client(workerId);
      const source: ModelSource = typeof from === "string"
        ? { location: { $case: "path", value: from }, sha256: "" }
        : { location: { $case: "url", value: from.url }, sha256: from.sha256 };
      const request = { model, source, asleep };
      return callUnary(control.load.bind(control), request, until(30_000));
    },
    async unload(workerId, model, boundMs = 10_000) {
      const control = client(workerId);
      const answer = await inTime(
        callUnary(control.unload.bind(control), { model }, until(boundMs)),
      );
      return answer?.cut;
    },
    sleep(workerId, model, boundMs = 10_000) {
      const control = client(workerId);
      return inTime(
        callUnary(control.sleep.bind(control), { model }, until(boundMs)),
      );
    },
    wake(workerId, model) {
      const control = client(workerId);
      return callUnary(control.wake.bind(control), { model }, until(30_000));
    },
    async waitForState(workerId, model, state) {
      await eventually(() => {
        const served = records.get(workerId)?.models.find((each) =>
          each.model === model
        );
        return Promise.resolve(served?.state === state || undefined);
      });
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

async function follow(
  bus: Bus,
  records: Map<string, WorkerRecord>,
  signal: AbortSignal,
): Promise<void> {
  for await (const change of bus.watchWorkers(signal)) {
    if (change.kind === "put") {
      records.set(change.record.workerId, change.record);
    } else records.delete(change.workerId);
  }
}

async function inTime<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (reason) {
    if (MeshError.from(reason).code === Code.deadlineExceeded) return undefined;
    throw reason;
  }
}
