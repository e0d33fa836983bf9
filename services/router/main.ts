import { connectBus } from "../../lib/bus/mod.ts";
import { firstStopSignal } from "../../lib/process/mod.ts";
import { createLogger, startTelemetry } from "../../lib/telemetry/mod.ts";
import { parseConfig } from "./config.ts";
import { loadModel } from "./load_models.ts";
import { newRouterId, startRouter } from "./router.ts";

const version = "0.1.0";
const routerId = newRouterId();
const config = parseConfig(process.env);
const logger = createLogger({
  service: "router",
  level: config.logLevel,
  pretty: config.logPretty,
});
await using parts = new AsyncDisposableStack();

parts.use(startTelemetry({
  service: "router",
  version,
  instanceId: routerId,
  endpoint: config.otlpEndpoint,
  sampleRatio: config.sampleRatio,
  onWarning: (message) => logger.warn({}, message),
}));
const models = await Promise.all(config.models.map(loadModel));
const bus = parts.use(
  await connectBus({
    url: config.natsUrl,
    name: "router",
    onWarning: (warning) => logger.warn({ ...warning }, "bus"),
  }),
);
const router = await startRouter({
  config,
  models,
  bus,
  logger,
  version,
  routerId,
});
logger.info(
  {
    http: router.httpPort,
    grpc: router.grpcPort,
    models: models.map(({ name }) => name),
  },
  "The router serves",
);

const exitCode = await Promise.race([
  firstStopSignal().then((signal) => {
    logger.info({ signal }, "The router stops");
    return 0;
  }),
  router.failed.then((err) => {
    logger.fatal({ err }, "The router cannot go on");
    return 1;
  }),
]);
await router.close(config.drainMs);
await parts.disposeAsync();
process.exit(exitCode);
