import type {
  MeshState,
  ModelList,
  WorkerModelState,
  WorkerState,
} from "../api_types.ts";
import { count, ms, textTable } from "./text_table.ts";

interface Row {
  readonly worker: WorkerState;
  readonly model: WorkerModelState | undefined;
}

/** Workers, then models, as two tables. */
export function showMesh(
  { mesh, models }: { mesh: MeshState; models: ModelList },
): string {
  const head = `${new Date(mesh.atMs).toISOString().slice(11, 19)}  NATS ${
    mesh.natsConnected ? "connected" : "away: what follows is old"
  }  ${mesh.routers.length} routers, ${
    count(sum(mesh.routers.map((router) => router.requestsPerS)))
  } requests/s`;
  const rows = mesh.workers.flatMap((worker): Row[] =>
    worker.models.length === 0
      ? [{ worker, model: undefined }]
      : worker.models.map((model) => ({ worker, model }))
  );
  const workers = rows.length === 0 ? "No workers." : textTable(rows, [
    { title: "worker", of: ({ worker }) => worker.workerId },
    { title: "role", of: ({ worker }) => worker.role },
    { title: "state", of: ({ worker }) => worker.state },
    { title: "model", of: ({ model }) => model?.model ?? "–" },
    {
      title: "run",
      of: ({ model }) => `${model?.running ?? "–"}`,
      right: true,
    },
    {
      title: "wait",
      of: ({ model }) => `${model?.waiting ?? "–"}`,
      right: true,
    },
    {
      title: "KV used",
      of: ({ model }) =>
        model === undefined || model.blocksTotal === 0
          ? "–"
          : `${Math.round(100 * (1 - model.blocksFree / model.blocksTotal))} %`,
      right: true,
    },
    {
      title: "prefill/s",
      of: ({ model }) => count(model?.prefillTokensPerS ?? null),
      right: true,
    },
    {
      title: "decode/s",
      of: ({ model }) => count(model?.decodeTokensPerS ?? null),
      right: true,
    },
    {
      title: "step",
      of: ({ worker }) => ms(worker.metrics?.stepMsMean ?? null),
      right: true,
    },
    {
      title: "batch",
      of: ({ worker }) => count(worker.metrics?.batchSizeMean ?? null),
      right: true,
    },
  ]);
  const known = models.models.length === 0 ? "" : textTable(models.models, [
    { title: "model", of: ({ model }) => model },
    { title: "state", of: ({ state }) => state },
    { title: "decode", of: (m) => `${m.decodeReplicas}`, right: true },
    { title: "prefill", of: (m) => `${m.prefillReplicas}`, right: true },
    { title: "run", of: ({ running }) => `${running}`, right: true },
    { title: "held", of: ({ held }) => `${held}`, right: true },
    { title: "req/s", of: (m) => count(m.requestsPerS), right: true },
    { title: "tok/s", of: (m) => count(m.outputTokensPerS), right: true },
  ]);
  return `${[head, workers, known].filter(Boolean).join("\n\n")}\n`;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
