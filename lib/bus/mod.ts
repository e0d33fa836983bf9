/** What the mesh shares: workers, KV events, traffic, wake-ups. Over NATS, or in one process. */
export * from "./types.ts";
export { type Clock, systemClock } from "./clock.ts";
export { createLocalBus, type LocalBusOptions } from "./local_bus.ts";
export { connectBus, type ConnectBusOptions } from "./nats_bus.ts";
export type { BusOptions, MeshBus } from "./options.ts";
export { traceContextOf } from "./trace_context.ts";
export type { BusWarning, BusWarningKind } from "./warnings.ts";
