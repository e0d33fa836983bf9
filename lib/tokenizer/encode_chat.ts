/**
 * Chat to ids, such that what users wrote cannot forge control tokens.
 *
 * A template renders to text, and the text's control tokens are then parsed; a
 * message that contains `<|im_end|>` would end its own turn. So, before rendering,
 * each such spelling in the request's strings is replaced by one private-use
 * character, drawn at random for this rendering. Only forgeries change: a template
 * may still trim, split and slice content. After rendering, the characters turn
 * back into their text, and no control token is parsed where it touches one.
 * Ends and beginnings that a template could complete (`<|im_` + `end|>`) count too.
 */
import { randomInt } from "node:crypto";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { type ForgeryFinder, forgeryFinder } from "./forgeries.ts";
import type { ModelTokenizer } from "./tokenizer.ts";
import type { ChatMessage, ChatTemplate, RenderOptions } from "./types.ts";

/** Roles templates know. A template may write `<|role|>`, so others are refused. */
const roles: readonly string[] = [
  "system",
  "developer",
  "user",
  "assistant",
  "tool",
  "function",
  "ipython",
];

const privateUseFirst = 0xe000;
const privateUseLast = 0xf8ff;
const depthMax = 64;

export interface EncodeChatOptions extends RenderOptions {
  /** Told what the template wrote before it is encoded; may refuse it by throwing. */
  checkText?: (text: string) => void;
}

/** Renders and encodes; begin-of-text comes first once, if the file asks for it. */
export function encodeChat(
  template: ChatTemplate,
  tokenizer: ModelTokenizer,
  messages: readonly ChatMessage[],
  { checkText, ...options }: EncodeChatOptions = {},
): Int32Array {
  refuseUnknownRoles(messages);
  const guard = createGuard(forgeryFinder(tokenizer.controlTexts), [
    messages,
    options.tools,
    options.variables,
  ]);
  const rendered = template.render(
    guard.hide(messages, "role") as readonly ChatMessage[],
    {
      ...options,
      tools: guard.hide(options.tools),
      variables: guard.hide(options.variables) as RenderOptions["variables"],
    },
  );
  const { text, plainRanges } = guard.restore(rendered);
  checkText?.(text);
  const ids = tokenizer.encode(text, {
    addSpecial: false,
    parseSpecial: true,
    plainRanges,
  });
  if (!tokenizer.addsBos || ids[0] === tokenizer.bosId) return ids;
  return Int32Array.of(tokenizer.bosId!, ...ids);
}

function refuseUnknownRoles(messages: readonly ChatMessage[]): void {
  messages.forEach(({ role }, i) => {
    if (roles.includes(role)) return;
    throw new MeshError(
      Code.invalidArgument,
      `Cannot encode chat: messages[${i}].role needs one of ${
        roles.join(", ")
      }; ` +
        `found ${JSON.stringify(role)}`,
      { field: `messages[${i}].role` },
    );
  });
}

interface Guard {
  /** A copy in which no string spells a control token; the key `keep` stays as it is. */
  hide(value: unknown, keep?: string): unknown;
  /** The text as it was, and where it came from hidden characters. */
  restore(rendered: string): { text: string; plainRanges: [number, number][] };
}

function createGuard(
  find: ForgeryFinder,
  sources: readonly unknown[],
): Guard {
  const used = new Set<string>();
  for (const source of sources) collectPrivateUse(source, used, 0);
  const hidden = new Map<string, string>();
  const stands = new Map<string, string>();

  function hideText(text: string): string {
    let safe = "";
    let at = 0;
    for (const [start, end] of find(text)) {
      safe += text.slice(at, start) + charFor(text.slice(start, end));
      at = end;
    }
    return safe + text.slice(at);
  }

  function charFor(spelling: string): string {
    let char = hidden.get(spelling);
    if (char === undefined) {
      char = freeCharacter(used);
      hidden.set(spelling, char);
      stands.set(char, spelling);
    }
    return char;
  }

  function hide(value: unknown, keep?: string, depth = 0): unknown {
    if (typeof value === "string") return hideText(value);
    if (typeof value !== "object" || value === null) return value;
    if (depth > depthMax) throw tooDeep();
    if (Array.isArray(value)) {
      return value.map((each) => hide(each, keep, depth + 1));
    }
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [
        hideText(key),
        key === keep && depth === 1 ? each : hide(each, keep, depth + 1),
      ]),
    );
  }

  return {
    hide: (value, keep) => hide(value, keep),
    restore(rendered) {
      const plainRanges: [number, number][] = [];
      let text = "";
      for (const unit of splitAt(rendered, stands)) {
        const spelling = stands.get(unit);
        if (spelling !== undefined) {
          plainRanges.push([text.length, text.length + spelling.length]);
        }
        text += spelling ?? unit;
      }
      return { text, plainRanges };
    },
  };
}

function collectPrivateUse(
  value: unknown,
  used: Set<string>,
  depth: number,
): void {
  if (depth > depthMax + 1) throw tooDeep();
  if (typeof value === "string") {
    for (let at = 0; at < value.length; at++) {
      const unit = value.charCodeAt(at);
      if (unit >= privateUseFirst && unit <= privateUseLast) {
        used.add(value[at]);
      }
    }
  } else if (typeof value === "object" && value !== null) {
    for (const [key, each] of Object.entries(value)) {
      collectPrivateUse(key, used, depth + 1);
      collectPrivateUse(each, used, depth + 1);
    }
  }
}

/** A random private-use character that nothing in this request uses yet. */
function freeCharacter(used: Set<string>): string {
  const count = privateUseLast - privateUseFirst + 1;
  const from = randomInt(count);
  for (let step = 0; step < count; step++) {
    const char = String.fromCharCode(privateUseFirst + (from + step) % count);
    if (used.has(char)) continue;
    used.add(char);
    return char;
  }
  throw new MeshError(
    Code.invalidArgument,
    `Cannot encode chat: needs a private-use character the messages do not use, ` +
      `found all ${count} in use`,
    { field: "messages" },
  );
}

/** Parts of the text: each hidden character alone, what is between in one. */
function splitAt(text: string, stands: ReadonlyMap<string, string>): string[] {
  if (stands.size === 0) return [text];
  return text.split(new RegExp(`([${[...stands.keys()].join("")}])`));
}

function tooDeep(): MeshError {
  return new MeshError(
    Code.invalidArgument,
    `Cannot encode chat: values may nest ${depthMax} deep, found deeper`,
    { field: "messages" },
  );
}
