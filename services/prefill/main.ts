import { runWorker } from "../../lib/worker/mod.ts";
import { parseConfig } from "./config.ts";
import { prefillRole } from "./role.ts";

const config = parseConfig(process.env);
const exitCode = await runWorker({
  role: "prefill",
  config,
  build: (parts) => prefillRole(config, parts),
});
process.exit(exitCode);
