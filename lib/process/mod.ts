/** What a service needs of its process. */
export { firstStopSignal } from "./stop_signals.ts";
