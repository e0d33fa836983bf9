/** What the commands print: colours, progress, a table of phases, errors. */
export { createPhases, type Phase, type Phases } from "./phases.ts";
export { createProgress, type Progress, type Step } from "./progress.ts";
export { type Style, styleOf } from "./style.ts";
export { endWithError, UserError } from "./user_error.ts";

/** How a person types a task: this is all a fresh machine has. */
export const denoTask = "npx -y deno@2.9.3 task";
