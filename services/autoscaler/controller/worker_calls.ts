import { callUnary, connect } from "../../../lib/rpc/mod.ts";
import type { ModelSource } from "../crds/mod.ts";
import { WorkerControlClient } from "../../../proto/gen/quetzal/v1/control.ts";

/** The calls to one worker that placement needs. */
export interface WorkerCalls extends Disposable {
  load(model: string, source: ModelSource, options: CallBounds): Promise<void>;
  /** Answers how many sequences the deadline cut off. */
  unload(model: string, options: CallBounds): Promise<number>;
  sleep(model: string, options: CallBounds): Promise<void>;
  wake(model: string, options: CallBounds): Promise<void>;
  /** Progress of a load, 0 to 1; `undefined` when the worker does not know the model. */
  progress(model: string, options: CallBounds): Promise<number | undefined>;
}

export interface CallBounds {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Over gRPC; connects with the first call. */
export function connectWorker(address: string): WorkerCalls {
  const client = connect(WorkerControlClient, address);
  const bounded = ({ timeoutMs, signal }: CallBounds) => ({
    signal,
    deadlineMs: Date.now() + timeoutMs,
  });
  return {
    async load(model, source, options) {
      const request = { model, source: sourceOf(source), asleep: false };
      await callUnary(client.load.bind(client), request, bounded(options));
    },
    async unload(model, options) {
      const { cut } = await callUnary(
        client.unload.bind(client),
        { model },
        bounded(options),
      );
      return cut;
    },
    async sleep(model, options) {
      await callUnary(client.sleep.bind(client), { model }, bounded(options));
    },
    async wake(model, options) {
      await callUnary(client.wake.bind(client), { model }, bounded(options));
    },
    async progress(model, options) {
      const { models } = await callUnary(
        client.status.bind(client),
        {},
        bounded(options),
      );
      return models.find((own) => own.model === model)?.progress;
    },
    [Symbol.dispose]: () => client.close(),
  };
}

function sourceOf({ path, url, sha256 }: ModelSource) {
  return {
    location: path !== undefined
      ? { $case: "path" as const, value: path }
      : { $case: "url" as const, value: url ?? "" },
    sha256: sha256 ?? "",
  };
}
