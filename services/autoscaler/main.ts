import { setTimeout as delay } from "node:timers/promises";
import { type Bus, connectBus } from "../../lib/bus/mod.ts";
import {
  createLogger,
  createRegistry,
  serveMetrics,
  startTelemetry,
} from "../../lib/telemetry/mod.ts";
import { parseConfig } from "./config.ts";
import { Controller } from "./controller/controller.ts";
import { kubeConfigOf } from "./kube_config.ts";
import { boundTo, createKubeClient, LeaderElection } from "./kube/mod.ts";
import { createControllerMetrics } from "./metrics.ts";

const version = "0.1.0";
const config = parseConfig(process.env);
const log = createLogger({
  service: "autoscaler",
  level: config.logLevel,
  pretty: config.logPretty,
});
const stopping = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) {
  process.on(name, () => {
    if (stopping.signal.aborted) process.exit(1);
    log.info({ signal: name }, "Stops");
    stopping.abort(new Error(`Told to stop: ${name}`));
  });
}

await using parts = new AsyncDisposableStack();
const telemetry = parts.use(startTelemetry({
  service: "autoscaler",
  version,
  instanceId: config.identity,
  endpoint: config.otlpEndpoint,
  onWarning: (message) => log.warn(message),
}));
const registry = createRegistry();
const metrics = createControllerMetrics(registry);
metrics.leading.set(0);
const server = parts.use(
  await serveMetrics({ port: config.port, host: config.host, registry }),
);
const client = parts.use(
  await createKubeClient({
    config: kubeConfigOf(config.kubeconfig),
    userAgent: `quetzal-autoscaler/${version}`,
  }),
);
const election = new LeaderElection({
  client,
  namespace: config.namespace,
  leaseName: config.leaseName,
  identity: config.identity,
  leaseMs: config.leaseMs,
  renewMsMax: config.leaseMs * 2 / 3,
  everyMs: config.leaseMs / 6,
  nowMs: () => performance.now(),
  random: Math.random,
  onNote: (note) => {
    if (note.kind === "failed") {
      log.warn({ err: note.reason }, "Cannot reach the lease");
    } else log.info(note, "Lease");
  },
});
log.info(
  { port: server.port, namespace: config.namespace, identity: config.identity },
  "The autoscaler listens",
);

let exitCode = 0;
try {
  // Who lost the lease stands in line again, with nothing remembered.
  while (!await election.run(lead, stopping.signal)) {
    log.warn("No longer the leader; waits for the lease");
  }
} catch (reason) {
  if (!stopping.signal.aborted) {
    log.fatal({ err: reason }, "The autoscaler cannot go on");
    exitCode = 1;
  }
}
await parts.disposeAsync();
process.exit(exitCode);

async function lead(signal: AbortSignal): Promise<void> {
  metrics.leading.set(1);
  const joining = new AbortController();
  const mesh = joinMesh(AbortSignal.any([signal, joining.signal]));
  const controller = new Controller({
    // What is under way when the lease is lost does not go on either.
    client: boundTo(client, signal, () => election.holds),
    mayAct: () => election.holds,
    namespace: config.namespace,
    identity: config.identity,
    defaults: {
      image: config.workerImage,
      natsUrl: config.workerNatsUrl,
      natsSecret: config.workerNatsSecret,
      otlpEndpoint: config.workerOtlpEndpoint,
    },
    log,
    metrics,
    tracer: telemetry.tracer(),
    tickMs: config.tickMs,
    resyncMs: config.resyncMs,
  });
  try {
    await controller.run(mesh, signal);
  } finally {
    metrics.leading.set(0);
    joining.abort(new Error("No longer leading"));
    const closing = mesh.then((bus) => bus[Symbol.asyncDispose](), () => {
      // It never connected, so there is nothing to close.
    });
    await Promise.race([closing, delay(2_000)]);
  }
}

/** Waits for NATS as long as it takes. */
async function joinMesh(signal: AbortSignal): Promise<Bus> {
  return await connectBus({
    url: config.natsUrl,
    name: config.identity,
    signal,
    onWarning: ({ message, cause }) =>
      log.warn({ cause: cause && String(cause) }, message),
  });
}
