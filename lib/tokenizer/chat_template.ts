import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { GgufMetadata } from "../gguf/types.ts";
import { formatTime } from "./format_time.ts";
import type { ModelTokenizer } from "./tokenizer.ts";
import type { ChatMessage, ChatTemplate, RenderOptions } from "./types.ts";

/** Numbers that all calls of `range` in one rendering may yield together. */
const rangeNumbersMax = 100_000;

/** The chat template of the file; `undefined` when it has none. */
export function createChatTemplate(
  metadata: GgufMetadata,
  tokenizer: ModelTokenizer,
): ChatTemplate | undefined {
  if (metadata.get("tokenizer.chat_template") === undefined) return undefined;
  const program = parseTemplate(metadata.string("tokenizer.chat_template"));
  const tokenText = (id: number | undefined) =>
    id === undefined ? "" : tokenizer.tokenText(id) ?? "";
  const tokens = {
    bos_token: tokenText(tokenizer.bosId),
    eos_token: tokenText(tokenizer.eosId),
  };
  return {
    render(messages, options = {}) {
      try {
        return run(program, { ...tokens, ...namesFor(messages, options) });
      } catch (cause) {
        if (cause instanceof MeshError) throw cause;
        throw failed("render", cause);
      }
    },
  };
}

type Program = ReturnType<typeof parse>;

function parseTemplate(source: string): Program {
  try {
    return parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  } catch (cause) {
    throw failed("parse", cause);
  }
}

function run(
  program: Program,
  names: Readonly<Record<string, unknown>>,
): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries(names)) {
    environment.set(name, value);
  }
  const result: unknown = new Interpreter(environment).run(program).value;
  return String(result);
}

/** What a template may name: the request's values, and functions it expects. */
function namesFor(
  messages: readonly ChatMessage[],
  options: RenderOptions,
): Record<string, unknown> {
  const {
    addGenerationPrompt = false,
    tools,
    variables,
    now = () => new Date(),
  } = options;
  const noTools = Array.isArray(tools) && tools.length === 0;
  return {
    // Where the request has none, templates expect Python's None: `tools is not none`.
    documents: null,
    ...variables,
    messages,
    tools: noTools ? null : tools ?? null,
    add_generation_prompt: addGenerationPrompt,
    strftime_now: (format: string) => formatTime(now(), format),
    raise_exception: refuse,
    range: boundedRange(),
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
  };
}

function refuse(complaint: unknown): never {
  throw new MeshError(
    Code.invalidArgument,
    `Cannot render chat: the template of the model says: ${complaint}`,
    { field: "messages" },
  );
}

/** Python's `range` with a budget: a template comes with a file from strangers. */
function boundedRange(): (
  start: number,
  stop?: number,
  step?: number,
) => number[] {
  let left = rangeNumbersMax;
  return (first, second, step = 1) => {
    const [start, stop] = second === undefined ? [0, first] : [first, second];
    const count = Math.max(0, Math.ceil((stop - start) / step));
    if (!(count <= left)) {
      throw new Error(
        `range() may yield ${rangeNumbersMax} numbers in all, found more`,
      );
    }
    left -= count;
    return Array.from({ length: count }, (_, i) => start + i * step);
  };
}

function failed(action: string, cause: unknown): MeshError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MeshError(
    Code.invalidArgument,
    `Cannot ${action} chat template: ${reason}`,
    { cause, field: "messages" },
  );
}
