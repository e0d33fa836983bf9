import { runWorker } from "../../lib/worker/mod.ts";
import { parseConfig } from "./config.ts";
import { decodeRole } from "./role.ts";

const config = parseConfig(process.env);
const exitCode = await runWorker({
  role: "decode",
  config,
  build: (parts) => decodeRole(config, parts),
});
process.exit(exitCode);
