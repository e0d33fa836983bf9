/** A prefill and a decode worker in this process, over real gRPC and a local bus. */
import { createLocalBus, type MeshBus } from "../../../lib/bus/mod.ts";
import type { Engine } from "../../../lib/engine/types.ts";
import {
  crc32cTable,
  GrpcKvTransport,
  type GrpcTransportOptions,
  type KvFaultKind,
  type SharedFiles,
} from "../../../lib/kv_transport/mod.ts";
import { callStream, connect } from "../../../lib/rpc/mod.ts";
import {
  Admission,
  embedService,
  servedModel,
  ServedModels,
  startWorker,
  type Worker,
  WorkerDirectory,
} from "../../../lib/worker/mod.ts";
import { RecordingObserver } from "../../../lib/worker/testing/recording_observer.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import type { SamplingParams } from "../../../proto/gen/quetzal/v1/common.ts";
import {
  DecodeClient,
  type DecodeEvent,
  type DecodeRequest,
} from "../../../proto/gen/quetzal/v1/decode.ts";
import { type BreakableProxy, startBreakableProxy } from "./breakable_proxy.ts";
import { decodeService } from "../../../services/decode/server.ts";
import { prefillService } from "../../../services/prefill/server.ts";

export interface PairOptions {
  /** Engines by model name. */
  readonly prefillEngines: Readonly<Record<string, Engine>>;
  readonly decodeEngines: Readonly<Record<string, Engine>>;
  /** The fault that every transfer has. */
  readonly fault?: KvFaultKind;
  readonly transport?: Omit<GrpcTransportOptions, "crc32c">;
  /** The prefill worker's side of shared memory; none unless set. */
  readonly sharedFiles?: SharedFiles;
  readonly slowReaderMs?: number;
  readonly kvBufferBytesMax?: number;
  readonly endIds?: readonly number[];
}

export interface Pair extends AsyncDisposable {
  readonly bus: MeshBus;
  readonly prefill: Worker;
  readonly decode: Worker;
  readonly observer: RecordingObserver;
  readonly prefillObserver: RecordingObserver;
  readonly client: DecodeClient;
  /** Stands between the two workers. */
  readonly proxy: BreakableProxy;
}

export async function startPair(options: PairOptions): Promise<Pair> {
  await using undo = new AsyncDisposableStack();
  const bus = undo.use(createLocalBus());
  const observer = new RecordingObserver();
  const prefillObserver = new RecordingObserver();
  const proxy = undo.use(await startBreakableProxy());
  const prefill: Worker = await startPrefill(
    options,
    prefillObserver,
    proxy,
  );
  undo.use(prefill);
  const prefillWorkers = undo.use(new WorkerDirectory("prefill"));
  const transport = undo.use(
    new GrpcKvTransport({ crc32c: crc32cTable, ...options.transport }),
  );
  const models = modelsOf(options.decodeEngines, options.endIds);
  const admission = new Admission();
  const decode = undo.use(
    await startWorker({
      role: "decode",
      workerId: "decode-0",
      host: "127.0.0.1",
      port: 0,
      models,
      admission,
      onError: fail,
      services: [
        decodeService({
          models,
          admission,
          transport,
          prefillWorkers,
          observer,
          remoteTokensMin: 1,
          slowReaderMs: options.slowReaderMs ?? 5_000,
        }),
        embedService({ models, admission, observer }),
      ],
    }),
  );
  prefillWorkers.follow(bus, fail);
  for (const worker of [prefill, decode]) {
    worker.join(bus);
    worker.ready();
  }
  const model = Object.keys(options.prefillEngines)[0];
  await waitFor(() => prefillWorkers.find(prefill.address, model));
  const client = connect(DecodeClient, decode.address);
  undo.defer(() => client.close());
  const kept = undo.move();
  return {
    bus,
    prefill,
    decode,
    observer,
    prefillObserver,
    client,
    proxy,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

async function startPrefill(
  { prefillEngines, fault, kvBufferBytesMax, endIds, sharedFiles }: PairOptions,
  observer: RecordingObserver,
  proxy: BreakableProxy,
): Promise<Worker> {
  const models = modelsOf(prefillEngines, endIds);
  const admission = new Admission();
  const worker = await startWorker({
    advertise: `127.0.0.1:${proxy.port}`,
    role: "prefill",
    workerId: "prefill-0",
    host: "127.0.0.1",
    port: 0,
    models,
    admission,
    onError: fail,
    services: [
      prefillService({
        models,
        admission,
        crc32c: crc32cTable,
        kvBufferBytesMax: kvBufferBytesMax ?? 1 << 20,
        sharedFiles,
        kvFaults: new Map(fault ? [[fault, 1]] : []),
        observer,
        // In the middle of each transfer.
        random: () => 0.5,
        die: () => proxy.break(),
      }),
      embedService({ models, admission, observer }),
    ],
  });
  proxy.targetPort = worker.port;
  return worker;
}

function modelsOf(
  engines: Readonly<Record<string, Engine>>,
  endIds: readonly number[] = [],
): ServedModels {
  return new ServedModels(
    Object.entries(engines).map(([name, engine]) =>
      servedModel(name, engine, endIds)
    ),
  );
}

function fail(what: unknown, reason?: unknown): void {
  throw new Error(`Unexpected failure: ${what}`, { cause: reason });
}

export function sampling(values: Partial<SamplingParams> = {}): SamplingParams {
  return {
    temperature: 0,
    topK: 0,
    topP: undefined,
    minP: 0,
    seed: 7n,
    presencePenalty: 0,
    frequencyPenalty: 0,
    repetitionPenalty: undefined,
    logitBias: {},
    stopTokenIds: [],
    ignoreEos: false,
    minTokens: 0,
    topLogprobs: undefined,
    ...values,
  };
}

/** `count` ids that repeat nothing within the first 97. */
export function promptOf(count: number, salt = 0): number[] {
  return Array.from({ length: count }, (_, i) => (i * 31 + salt) % 97 + 1);
}

export function requestOf(values: Partial<DecodeRequest> = {}): DecodeRequest {
  return {
    requestId: "r-1",
    model: "fake",
    promptIds: promptOf(100),
    emittedIds: [],
    sampling: sampling(),
    maxTokens: 8,
    prefillAddress: "",
    tenant: "",
    ...values,
  };
}

export interface Outcome {
  readonly ids: number[];
  readonly started:
    | Extract<DecodeEvent["event"], { $case: "started" }>["value"]
    | undefined;
  readonly finished:
    | Extract<DecodeEvent["event"], { $case: "finished" }>["value"]
    | undefined;
  readonly error:
    | Extract<DecodeEvent["event"], { $case: "error" }>["value"]
    | undefined;
}

/** Reads one whole sequence. */
export async function generate(
  { client }: Pick<Pair, "client">,
  request: DecodeRequest,
  options: { signal?: AbortSignal; deadlineMs?: number } = {},
): Promise<Outcome> {
  const outcome = {
    ids: [] as number[],
    started: undefined as Outcome["started"],
    finished: undefined as Outcome["finished"],
    error: undefined as Outcome["error"],
  };
  const events = callStream(client.generate.bind(client), request, options);
  for await (const { event } of events) {
    if (event?.$case === "tokens") {
      outcome.ids.push(...event.value.tokens.map(({ id }) => id));
    } else if (event?.$case === "started") outcome.started = event.value;
    else if (event?.$case === "finished") outcome.finished = event.value;
    else if (event?.$case === "error") outcome.error = event.value;
  }
  return outcome;
}
