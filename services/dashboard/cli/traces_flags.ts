import { parseArgs } from "node:util";
import { denoTask, UserError } from "../../../infra/terminal/mod.ts";
import { traceParameters } from "../http/read_query.ts";

export type TracesCommand =
  | { readonly kind: "help" }
  | {
    readonly kind: "list";
    /** "" or "?model=…", as /api/traces takes it. */
    readonly query: string;
    readonly json: boolean;
    readonly dashboard: string | undefined;
  }
  | {
    readonly kind: "show";
    readonly traceId: string;
    readonly json: boolean;
    readonly dashboard: string | undefined;
  };

const kebab = (name: string) =>
  name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

export const tracesHelp = `Shows traces of the dashboard.

  ${denoTask} traces [list] [flags]   the newest, or what the flags say
  ${denoTask} traces show TRACE_ID    one: its phases, route, spans and tokens

  --model NAME (repeatable) --tenant NAME --worker ID --status ok|error|cancelled
  --trace-id HEX (its beginning is enough) --request-id ID
  --duration-ms-min N --duration-ms-max N --ttft-ms-min N --ttft-ms-max N
  --prompt-tokens-min N --prompt-tokens-max N
  --output-tokens-min N --output-tokens-max N --from-ms N --to-ms N
  --order newest|oldest|slowest|fastest --limit N --cursor TEXT

  --json             what the API answers (services/dashboard/api_types.ts)
  --dashboard URL    QUETZAL_DASHBOARD_URL, or the mesh that is up here
  --help
`;

export function parseTracesFlags(args: readonly string[]): TracesCommand {
  const { values, positionals } = readFlags(args) as {
    values: Readonly<Record<string, string | string[] | boolean | undefined>>;
    positionals: string[];
  };
  if (values.help === true) return { kind: "help" };
  const [what = "list", traceId, ...rest] = positionals;
  const common = {
    json: values.json === true,
    dashboard: values.dashboard as string | undefined,
  };
  if (what === "show" && traceId !== undefined && rest.length === 0) {
    if (/^[0-9a-f]{4,32}$/i.test(traceId)) {
      return { kind: "show", traceId: traceId.toLowerCase(), ...common };
    }
    throw refuse(`a trace id has 4 to 32 hex digits, found "${traceId}"`);
  }
  if (what !== "list" || traceId !== undefined) {
    throw refuse(
      `needs list or show TRACE_ID, found "${positionals.join(" ")}"`,
    );
  }
  const query = new URLSearchParams();
  for (const name of traceParameters) {
    const value = values[kebab(name)] ?? [];
    for (const one of [value].flat()) query.append(name, `${one}`);
  }
  return { kind: "list", query: query.size > 0 ? `?${query}` : "", ...common };
}

function readFlags(args: readonly string[]) {
  const filters = Object.fromEntries(
    traceParameters.map((name) => [
      kebab(name),
      { type: "string" as const, multiple: name === "model" },
    ]),
  );
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...filters,
        json: { type: "boolean" },
        dashboard: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw refuse((error as Error).message);
  }
}

function refuse(why: string): UserError {
  return new UserError(`Cannot show traces: ${why}`, {
    hints: [`${denoTask} traces --help lists the flags`],
    exitCode: 2,
  });
}
