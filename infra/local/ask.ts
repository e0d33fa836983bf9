/** `deno task ask "What is the KV cache?"`; `--help` lists the flags. */
import { text as readAll } from "node:stream/consumers";
import { Code, MeshError } from "../../lib/errors/mesh_error.ts";
import { root } from "../setup/mod.ts";
import { denoTask, endWithError, styleOf, UserError } from "../terminal/mod.ts";
import { type Answer, answer } from "./answer.ts";
import { type AskConfig, askHelp, parseAskFlags } from "./ask_flags.ts";

// `task ask … | head -1`: nobody reads on, so there is nothing left to do.
process.stdout.on("error", () => process.exit(0));

try {
  const config = parseAskFlags(process.argv.slice(2), {
    env: process.env,
    root,
  });
  if (config === "help") process.stdout.write(askHelp);
  else await ask(config);
} catch (error) {
  endWithError(error);
}

async function ask(config: AskConfig): Promise<void> {
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  const prompt = config.prompt === "-"
    ? await readAll(process.stdin)
    : config.prompt;
  try {
    const found = await answer({ ...config, prompt }, {
      onText: (text) => void (config.json || process.stdout.write(text)),
      signal: stop.signal,
    });
    if (config.json) process.stdout.write(`${JSON.stringify(found)}\n`);
    else summarize(found);
  } catch (error) {
    if (!config.json) process.stdout.write("\n");
    // 130 is what a shell reports for a program ended by Ctrl-C.
    if (stop.signal.aborted) process.exitCode = 130;
    else throw explained(error, config);
  }
}

function summarize({ usage, timings }: Answer): void {
  process.stdout.write("\n");
  if (!process.stderr.isTTY) return;
  const { dim } = styleOf(process.stderr);
  const rate = timings.tokens_per_s === null
    ? ""
    : `, ${timings.tokens_per_s} tokens/s`;
  process.stderr.write(
    `${
      dim(
        `${usage.completion_tokens} tokens, ` +
          `the first after ${timings.ttft_ms} ms${rate}`,
      )
    }\n`,
  );
}

function explained(error: unknown, { grpc }: AskConfig): unknown {
  if (!(error instanceof MeshError)) return error;
  const unreachable = error.code === Code.unavailable &&
    error.cause !== undefined;
  if (!unreachable) {
    const field = error.field ? ` (field ${error.field})` : "";
    return new UserError(`${error.message}${field}`);
  }
  return new UserError(
    `Cannot ask: needs a mesh at ${grpc}, found none (${error.message})`,
    { hints: [`Start one: ${denoTask} up`] },
  );
}
