import { parseArgs } from "node:util";
import { denoTask, UserError } from "../terminal/mod.ts";
import { dataFolderOf } from "./data_folder.ts";
import { readRunning } from "./running.ts";

export interface AskConfig {
  readonly prompt: string;
  /** Empty: the only model that is served. */
  readonly model: string;
  /** 0: as many as the context holds. */
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed: bigint | undefined;
  /** Without the model's chat template. */
  readonly raw: boolean;
  readonly json: boolean;
  /** host:port */
  readonly grpc: string;
}

export const askHelp = `Sends one gRPC request and streams the answer.

  ${denoTask} ask [flags] "What is the KV cache?"

  --model NAME        needed when several are served
  --max-tokens N      0 for as many as the context holds (256)
  --temperature T     0 to 100; 0 picks the most likely token (0)
  --seed N            for --temperature above 0 (random)
  --raw               continue the text, without the model's chat template
  --json              one JSON object instead of the text
  --grpc HOST:PORT    (the mesh of \`task up\` here, else QUETZAL_GRPC_PORT, 50051)
  --help

A lone "-" reads the question from stdin.
`;

type Env = Readonly<Record<string, string | undefined>>;

/** Reads flags and environment; reports all faults at once. */
export function parseAskFlags(
  args: readonly string[],
  { env, root }: { env: Env; root: string },
): AskConfig | "help" {
  const { values, positionals } = readFlags(args);
  if (values.help) return "help";
  const faults: string[] = [];

  function number(
    flag: "max-tokens" | "temperature" | "seed",
    form: RegExp,
    [min, max]: readonly [number, number],
  ): number | undefined {
    const text = values[flag];
    if (text === undefined) return undefined;
    const value = form.test(text) ? Number(text) : NaN;
    if (value >= min && value <= max) return value;
    faults.push(`--${flag} is "${text}", expected ${min} to ${max}`);
    return undefined;
  }

  const whole = /^\d+$/;
  const maxTokens = number("max-tokens", whole, [0, 2 ** 31 - 1]) ?? 256;
  const temperature = number("temperature", /^\d*\.?\d+$/, [0, 100]) ?? 0;
  const seed = number("seed", whole, [0, Number.MAX_SAFE_INTEGER]);
  const grpc = values.grpc ?? usualAddress(env, root);
  if (!/^(?:[\w.-]+|\[[0-9a-f:]+\]):\d{1,5}$/i.test(grpc)) {
    faults.push(`--grpc is "${grpc}", expected host:port`);
  }
  const prompt = positionals.join(" ");
  if (prompt.trim() === "") faults.push("the question is missing");
  if (faults.length > 0) throw misuse(faults.join("; "));
  return {
    prompt,
    model: values.model ?? "",
    maxTokens,
    temperature,
    seed: seed === undefined ? undefined : BigInt(seed),
    raw: values.raw ?? false,
    json: values.json ?? false,
    grpc,
  };
}

/** What is said by hand counts most; then what runs here; then the usual port. */
function usualAddress(env: Env, root: string): string {
  if (env.QUETZAL_GRPC_PORT) return `127.0.0.1:${env.QUETZAL_GRPC_PORT}`;
  return readRunning(dataFolderOf({ env, root }))?.grpc ?? "127.0.0.1:50051";
}

function readFlags(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        model: { type: "string" },
        "max-tokens": { type: "string" },
        temperature: { type: "string" },
        seed: { type: "string" },
        raw: { type: "boolean" },
        json: { type: "boolean" },
        grpc: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw misuse((error as Error).message);
  }
}

function misuse(what: string): UserError {
  return new UserError(`Cannot ask: ${what}`, {
    hints: [`${denoTask} ask --help lists the flags`],
    exitCode: 2,
  });
}
