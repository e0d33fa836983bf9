import type { Tokenizer } from "../../../lib/tokenizer/types.ts";
import type { Token } from "../../../proto/gen/quetzal/v1/common.ts";
import type { OutputToken } from "../core/output_text.ts";

/** Log-probabilities in OpenAI's chat form. */
export interface ChatLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

export function chatLogprobs(
  tokens: readonly OutputToken<Token>[],
  tokenizer: Tokenizer,
) {
  const entry = (id: number, logprob: number): ChatLogprob => {
    const bytes = tokenizer.tokenBytes(id, { special: true });
    return {
      token: utf8.decode(bytes),
      logprob: finite(logprob),
      bytes: [...bytes],
    };
  };
  return tokens.map(({ token }) => ({
    ...entry(token.id, token.logprob ?? 0),
    top_logprobs: token.top.map(({ id, logprob }) => entry(id, logprob)),
  }));
}

/** The older form of text completions: columns instead of rows. */
export interface TextLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: number[];
  readonly top_logprobs: Record<string, number>[] | null;
  readonly text_offset: number[];
}

export function textLogprobs(
  tokens: readonly OutputToken<Token>[],
  { tokenizer, topCount }: { tokenizer: Tokenizer; topCount: number },
): TextLogprobs {
  const name = (id: number) =>
    utf8.decode(tokenizer.tokenBytes(id, { special: true }));
  return {
    tokens: tokens.map(({ token }) => name(token.id)),
    token_logprobs: tokens.map(({ token }) => finite(token.logprob ?? 0)),
    top_logprobs: topCount === 0
      ? null
      : tokens.map(({ token }) =>
        Object.fromEntries(
          token.top.map(({ id, logprob }) => [name(id), finite(logprob)]),
        )
      ),
    text_offset: tokens.map(({ offset }) => offset),
  };
}

/** Half a character shows as U+FFFD; its bytes tell the rest. */
const utf8 = new TextDecoder();

/** JSON has no -Infinity; OpenAI writes -9999 for "practically never". */
function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : -9999;
}
