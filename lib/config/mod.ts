/** Reads a service's settings from a plain record and reports all faults at once. */
export { type ConfigReader, type Env, readConfig } from "./read_config.ts";
