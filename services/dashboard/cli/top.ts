/** `deno task top`: the workers of the mesh, live in a terminal. */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  denoTask,
  endWithError,
  UserError,
} from "../../../infra/terminal/mod.ts";
import { root } from "../../../infra/setup/mod.ts";
import type { MeshState, ModelList } from "../api_types.ts";
import { askDashboard, findDashboard } from "./dashboard_client.ts";
import { showMesh } from "./show_mesh.ts";

const help = `Shows the workers of the mesh, once a second until Ctrl-C.

  ${denoTask} top [flags]

  --json             the present state as one JSON line: { mesh, models }
  --once             one table instead of a live one
  --dashboard URL    QUETZAL_DASHBOARD_URL, or the mesh that is up here
  --help
`;

process.stdout.on("error", () => process.exit(0));

try {
  const flags = readFlags(process.argv.slice(2));
  if (flags.help) process.stdout.write(help);
  else await top(flags);
} catch (error) {
  endWithError(error);
}

async function top(
  { json, once, dashboard }: ReturnType<typeof readFlags>,
): Promise<void> {
  const place = findDashboard({ url: dashboard, env: process.env, root });
  const read = async () => {
    const [mesh, models] = await Promise.all([
      askDashboard<MeshState>(place, "/api/mesh"),
      askDashboard<ModelList>(place, "/api/models"),
    ]);
    return { mesh, models };
  };
  if (json) {
    process.stdout.write(`${JSON.stringify(await read())}\n`);
    return;
  }
  if (once || !process.stdout.isTTY) {
    process.stdout.write(showMesh(await read()));
    return;
  }
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  while (!stop.signal.aborted) {
    const text = showMesh(await read());
    // Home, then each line over the old one, then away with what is below.
    process.stdout.write(`\x1b[H${text.replaceAll("\n", "\x1b[K\n")}\x1b[J`);
    await delay(1_000, undefined, { signal: stop.signal }).catch(() => {
      // Ctrl-C ends the wait and with it the loop.
    });
  }
}

function readFlags(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        json: { type: "boolean" },
        once: { type: "boolean" },
        dashboard: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new UserError(`Cannot show the mesh: ${(error as Error).message}`, {
      hints: [`${denoTask} top --help lists the flags`],
      exitCode: 2,
    });
  }
}
