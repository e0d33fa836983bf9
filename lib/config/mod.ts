/** Reads a service's settings from a plain record and reports all faults at once. */
export {
  type ConfigReader,
  type Env,
  type Range,
  readConfig,
} from "./read_config.ts";
export {
  logLevels,
  natsUrlField,
  sharedSecrets,
  type TelemetryConfig,
  telemetryFields,
} from "./shared_fields.ts";
