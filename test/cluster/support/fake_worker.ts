import {
  workerModel,
  workerRecord,
} from "../../../lib/bus/testing/worker_records.ts";
import type { Bus, WorkerModel, WorkerRole } from "../../../lib/bus/types.ts";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { type RpcServer, startRpcServer, unary } from "../../../lib/rpc/mod.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import {
  type LoadRequest,
  ModelState,
  type ModelStatus,
  type SleepRequest,
  type StatusRequest,
  type StatusResponse,
  type UnloadRequest,
  type UnloadResponse,
  type WakeRequest,
  WorkerControlService,
} from "../../../proto/gen/quetzal/v1/control.ts";

export interface FakeWorkerOptions {
  readonly bus: Bus;
  readonly podName: string;
  readonly role?: WorkerRole;
  /** How long a load takes. */
  readonly loadMs?: number;
  readonly memoryBytes?: number;
  readonly modelBytes?: number;
}

/**
 * A worker that speaks the real protocols and holds no model: its records are
 * in NATS, its `WorkerControl` answers over gRPC, by the contract of control.proto.
 */
export class FakeWorker implements AsyncDisposable {
  readonly calls: string[] = [];
  readonly models = new Map<string, WorkerModel>();
  /** Loads of these models fail. */
  readonly broken = new Set<string>();
  readonly #options: Required<Omit<FakeWorkerOptions, "bus">> & { bus: Bus };
  #server: RpcServer | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #open = true;

  private constructor(options: FakeWorkerOptions) {
    this.#options = {
      role: "decode",
      loadMs: 20,
      memoryBytes: 8 << 20,
      modelBytes: 1 << 20,
      ...options,
    };
  }

  static async start(options: FakeWorkerOptions): Promise<FakeWorker> {
    const worker = new FakeWorker(options);
    worker.#server = await startRpcServer({
      host: "127.0.0.1",
      port: 0,
      services: [worker.#service()],
    });
    worker.#timer = setInterval(() => void worker.publish(), 1_000);
    await worker.publish();
    return worker;
  }

  get podName(): string {
    return this.#options.podName;
  }

  /** As if so many sequences ran. */
  async setRunning(model: string, running: number): Promise<void> {
    const own = this.models.get(model)!;
    this.models.set(model, { ...own, running });
    await this.publish();
  }

  async publish(): Promise<void> {
    if (!this.#open) return;
    const { bus, podName, role, memoryBytes } = this.#options;
    await bus.putWorker(workerRecord(podName, {
      podName,
      role,
      address: `127.0.0.1:${this.#server!.port}`,
      startedAtMs: 1,
      memoryBytesTotal: memoryBytes,
      memoryBytesFree: this.#freeBytes,
      models: [...this.models.values()],
    }));
  }

  /** As a pod that ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#timer);
    await this.#options.bus.removeWorker(this.#options.role, this.podName);
    await this.#server?.close(100);
  }

  get #freeBytes(): number {
    let free = this.#options.memoryBytes;
    for (const { weightBytes } of this.models.values()) free -= weightBytes;
    return free;
  }

  async #set(model: string, state: WorkerModel["state"]): Promise<ModelStatus> {
    const holds = state === "running" || state === "loading" ||
      state === "waking";
    this.models.set(
      model,
      workerModel(model, {
        state,
        contextLength: 1_024,
        blocksTotal: 64,
        blocksFree: 64,
        running: this.models.get(model)?.running ?? 0,
        weightBytes: holds ? this.#options.modelBytes : 0,
      }),
    );
    await this.publish();
    return this.#status(model);
  }

  #status(model: string): ModelStatus {
    const own = this.models.get(model)!;
    return {
      model,
      fingerprint: own.fingerprint,
      blocksTotal: own.blocksTotal,
      blocksFree: own.blocksFree,
      running: own.running,
      waiting: own.waiting,
      state: states[own.state],
      weightBytes: BigInt(own.weightBytes),
      kvBytes: 0n,
      error: "",
      progress: own.state === "loading" ? 0.5 : 1,
    };
  }

  async #load({ model }: LoadRequest): Promise<ModelStatus> {
    this.calls.push(`load ${model}`);
    if (this.models.get(model)?.state === "running") return this.#status(model);
    const { modelBytes, loadMs } = this.#options;
    if (this.#freeBytes < modelBytes) {
      throw new MeshError(
        Code.resourceExhausted,
        `Cannot load "${model}": needs ${modelBytes} bytes, ${this.#freeBytes} are free`,
      );
    }
    await this.#set(model, "loading");
    await new Promise((resolve) => setTimeout(resolve, loadMs));
    if (this.broken.has(model)) {
      this.models.delete(model);
      await this.publish();
      throw new MeshError(
        Code.failedPrecondition,
        `Cannot load "${model}": its file is cut off`,
      );
    }
    return await this.#set(model, "running");
  }

  async #leave(model: string, deadlineMs: number | undefined): Promise<number> {
    await this.#set(model, "unloading");
    const leftMs = (deadlineMs ?? Date.now() + 60_000) - Date.now() - 200;
    const running = () => this.models.get(model)?.running ?? 0;
    await waitFor(() => running() === 0, {
      timeoutMs: Math.max(1, leftMs),
    }).catch(() => {
      // The deadline cut them off; the caller is told how many.
    });
    return running();
  }

  #service() {
    return {
      name: "quetzal.v1.WorkerControl",
      definition: WorkerControlService,
      implementation: {
        status: unary<StatusRequest, StatusResponse>(() => ({
          workerId: this.podName,
          role: this.#options.role,
          draining: false,
          models: [...this.models.keys()].map((name) => this.#status(name)),
          memoryBytesTotal: BigInt(this.#options.memoryBytes),
          memoryBytesFree: BigInt(this.#freeBytes),
        })),
        drain: unary(() => ({ remaining: 0 })),
        load: unary<LoadRequest, ModelStatus>((request) => this.#load(request)),
        unload: unary<UnloadRequest, UnloadResponse>(
          async ({ model }, call) => {
            this.calls.push(`unload ${model}`);
            if (!this.models.has(model)) return { cut: 0 };
            const cut = await this.#leave(model, call.deadlineMs);
            this.models.delete(model);
            await this.publish();
            return { cut };
          },
        ),
        sleep: unary<SleepRequest, ModelStatus>(async ({ model }, call) => {
          this.calls.push(`sleep ${model}`);
          await this.#leave(model, call.deadlineMs);
          return await this.#set(model, "asleep");
        }),
        wake: unary<WakeRequest, ModelStatus>(async ({ model }) => {
          this.calls.push(`wake ${model}`);
          return await this.#set(model, "running");
        }),
      },
    };
  }
}

const states = {
  loading: ModelState.MODEL_STATE_LOADING,
  running: ModelState.MODEL_STATE_RUNNING,
  asleep: ModelState.MODEL_STATE_ASLEEP,
  waking: ModelState.MODEL_STATE_WAKING,
  failed: ModelState.MODEL_STATE_FAILED,
  unloading: ModelState.MODEL_STATE_UNLOADING,
};
