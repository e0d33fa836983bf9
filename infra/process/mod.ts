/** Programs and processes of the operating system. */
export { findProgram, systemPath } from "./find_program.ts";
export { type Launch, launchesOf, startOf, vanished } from "./launches.ts";
export { runProgram, type RunResult } from "./run_program.ts";
export { type StopWatch, watchForStop } from "./stop_reason.ts";
