import { setPriority } from "node:os";
import { connectBus } from "../../lib/bus/mod.ts";
import { createLogger } from "../../lib/telemetry/mod.ts";
import { parseConfig } from "./config.ts";
import { startDashboard } from "./dashboard.ts";

const version = "0.1.0";
const config = parseConfig(process.env);
const logger = createLogger({
  service: "dashboard",
  level: config.logLevel,
  pretty: config.logPretty,
});
// Beside workers on one machine, spans can wait where tokens cannot.
if (config.nice > 0) setPriority(config.nice);
await using parts = new AsyncDisposableStack();
const dashboard = parts.use(await startDashboard({ config, logger, version }));
logger.info(
  {
    port: dashboard.port,
    otlpPort: dashboard.otlpPort,
    otlpGrpcPort: dashboard.otlpGrpcPort,
    login: config.token !== undefined,
    captureContent: config.captureContent,
  },
  "The dashboard serves",
);

// Traces are worth showing without NATS too, so nothing waits for it.
const joining = new AbortController();
const joined = config.natsUrl === undefined
  ? Promise.resolve(undefined)
  : connectBus({
    url: config.natsUrl,
    name: "dashboard",
    signal: joining.signal,
    onWarning: (warning) => logger.warn({ ...warning }, "bus"),
  }).then((bus) => {
    dashboard.join(bus);
    return bus;
  });
joined.catch((err) => {
  if (!joining.signal.aborted) logger.error({ err }, "Cannot join the mesh");
});

const signal = await new Promise<string>((resolve) => {
  for (const name of ["SIGTERM", "SIGINT"]) {
    process.on(name, () => resolve(name));
  }
});
logger.info({ signal }, "The dashboard stops");
joining.abort();
await parts.disposeAsync();
await joined.then((bus) => bus?.[Symbol.asyncDispose](), () => {
  // It never connected, so there is nothing to close.
});
process.exit(0);
