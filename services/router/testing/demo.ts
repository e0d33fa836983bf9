import {
  createLocalBus,
  type MeshBus,
  type WorkerModel,
} from "../../../lib/bus/mod.ts";
import { createLogger } from "../../../lib/telemetry/mod.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import { parseConfig, type RouterConfig } from "../config.ts";
import type { ServedModel } from "../core/mod.ts";
import { loadModel } from "../load_models.ts";
import { type Router, startRouter } from "../router.ts";
import {
  FakeDecode,
  type FakeDecodeOptions,
  type Script,
} from "./fake_decode.ts";

const path =
  new URL("../../../models/quetzal-demo-q8_0.gguf", import.meta.url).pathname;

/** The demo pair's tokenizer and template under the name "demo". */
export function demoModel(): Promise<ServedModel> {
  return loaded ??= loadModel({ name: "demo", path });
}

let loaded: Promise<ServedModel> | undefined;

/** Says `text`, then stops; its place in the text depends on the index alone. */
export function says(model: ServedModel, text: string): Script {
  const ids = model.tokenizer.encode(text, { addSpecial: false });
  return (_request, index) => index < ids.length ? ids[index] : "stop";
}

export interface TestWorkerOptions extends Partial<FakeDecodeOptions> {
  readonly script: Script;
  /** What its record says of the model. */
  readonly model?: Partial<WorkerModel>;
}

export interface TestRouter extends AsyncDisposable {
  readonly router: Router;
  readonly bus: MeshBus;
  readonly model: ServedModel;
  readonly url: string;
  readonly log: string[];
  /** Starts a fake decode worker and puts it on the bus. */
  worker(
    options: TestWorkerOptions,
  ): Promise<FakeDecode>;
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
}

/** A whole router with an in-process bus, on free ports. */
export async function testRouter(
  settings: Partial<RouterConfig> = {},
  models?: readonly ServedModel[],
): Promise<TestRouter> {
  const model = await demoModel();
  const bus = createLocalBus();
  const log: string[] = [];
  const config = {
    ...parseConfig({
      QUETZAL_MODELS: `demo=${path}`,
      QUETZAL_HTTP_PORT: "0",
      QUETZAL_GRPC_PORT: "0",
      // Tests are about the hand-over, which an idle worker does without.
      QUETZAL_ROUTER_PREFILL_IDLE_TOKENS_MIN: "0",
    }),
    ...settings,
  };
  const logger = createLogger({
    service: "router",
    level: "warn",
    write: (line) => log.push(line),
  });
  const router = await startRouter({
    config,
    models: models ?? [model],
    bus,
    logger,
  });
  const url = `http://127.0.0.1:${router.httpPort}`;
  const workers: FakeDecode[] = [];
  return {
    router,
    bus,
    model,
    url,
    log,
    async worker(options) {
      const worker = new FakeDecode({
        workerId: `${options.role ?? "decode"}-${workers.length}`,
        ...options,
      });
      workers.push(await worker.start());
      const health = () =>
        fetch(`${url}/health`).then(({ status }) => status === 200);
      await worker.join(bus, options.model);
      // Only decode workers make a router ready.
      if (options.role !== "prefill") {
        await waitFor(health, { what: "a ready router" });
      }
      return worker;
    },
    post(path, body, init = {}) {
      return fetch(url + path, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: typeof body === "string" ? body : JSON.stringify(body),
        ...init,
      });
    },
    async [Symbol.asyncDispose]() {
      await router.close(0);
      for (const worker of workers) await worker.crash();
      await bus[Symbol.asyncDispose]();
    },
  };
}
