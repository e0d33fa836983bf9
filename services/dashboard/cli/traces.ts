/** `deno task traces`: what the Requests and Trace pages show, in a terminal. */
import { endWithError } from "../../../infra/terminal/mod.ts";
import { root } from "../../../infra/setup/mod.ts";
import type { TraceDetail, TraceList } from "../api_types.ts";
import { askDashboard, findDashboard } from "./dashboard_client.ts";
import { showTrace } from "./show_trace.ts";
import { count, ms, textTable } from "./text_table.ts";
import {
  parseTracesFlags,
  type TracesCommand,
  tracesHelp,
} from "./traces_flags.ts";

// `task traces | head -1`: nobody reads on, so there is nothing left to do.
process.stdout.on("error", () => process.exit(0));

try {
  await run(parseTracesFlags(process.argv.slice(2)));
} catch (error) {
  endWithError(error);
}

async function run(command: TracesCommand): Promise<void> {
  if (command.kind === "help") return print(tracesHelp);
  const place = findDashboard({
    url: command.dashboard,
    env: process.env,
    root,
  });
  if (command.kind === "list") {
    const path = `/api/traces${command.query}`;
    const list = await askDashboard<TraceList>(place, path);
    return print(command.json ? `${JSON.stringify(list)}\n` : showList(list));
  }
  let { traceId } = command;
  if (traceId.length < 32) {
    const query = `?traceId=${traceId}&limit=1`;
    const { traces } = await askDashboard<TraceList>(
      place,
      `/api/traces${query}`,
    );
    traceId = traces[0]?.traceId ?? traceId.padEnd(32, "0");
  }
  const detail = await askDashboard<TraceDetail>(
    place,
    `/api/traces/${traceId}`,
  );
  print(command.json ? `${JSON.stringify(detail)}\n` : showTrace(detail));
}

function showList({ traces, nextCursor }: TraceList): string {
  if (traces.length === 0) return "No traces match.\n";
  const table = textTable(traces, [
    { title: "trace", of: ({ traceId }) => traceId.slice(0, 12) },
    {
      title: "started",
      of: ({ startAtMs }) => new Date(startAtMs).toISOString().slice(5, 23),
    },
    { title: "model", of: ({ model, name }) => model ?? name, max: 28 },
    {
      title: "status",
      of: ({ status, open, errorType }) => open ? "open" : errorType ?? status,
      max: 18,
    },
    { title: "took", of: ({ durationMs }) => ms(durationMs), right: true },
    { title: "first", of: ({ ttftMs }) => ms(ttftMs), right: true },
    { title: "prompt", of: (t) => count(t.promptTokens), right: true },
    { title: "output", of: (t) => count(t.outputTokens), right: true },
    { title: "worker", of: ({ decodeWorker }) => decodeWorker ?? "–", max: 24 },
  ]);
  return `${table}\n${nextCursor ? `\nMore: --cursor ${nextCursor}\n` : ""}`;
}

function print(text: string): void {
  process.stdout.write(text);
}
