/** For daemon.test.ts: starts a bound daemon, prints its record, and waits to be killed. */
import { join } from "node:path";
import { startDaemon } from "../daemon.ts";

const folder = process.argv[2];
const record = startDaemon({
  name: "sleep",
  program: "sleep",
  args: ["60"],
  cwd: folder,
  logFile: join(folder, "sleep.log"),
}, "bound");
console.log(JSON.stringify(record));
setTimeout(() => {}, 60_000);
