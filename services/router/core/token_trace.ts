import type { Attributes, Span } from "@opentelemetry/api";
import {
  contentAttributes,
  createTokenColumns,
  provenanceLetters,
  type TokenColumns,
} from "../../../lib/telemetry/mod.ts";
import type { TokenStream } from "../../../lib/tokenizer/types.ts";
import type { DecodeTokens } from "../../../proto/gen/quetzal/v1/decode.ts";

/** Longer answers are cut in the trace, not for the client. */
const textLengthMax = 65_536;

/**
 * Every token of one sequence for its trace: when it came, how it came about and, when content
 * may be captured, what it says. Across the workers that the sequence ran on.
 */
export class TokenTrace {
  /** Detokenizes once more: the client's text waits for stop strings, a trace shows each token. */
  readonly #stream: TokenStream | undefined;
  #columns: TokenColumns | undefined;
  #text = "";

  constructor(stream: TokenStream | undefined) {
    this.#stream = stream;
  }

  /** The tokens that follow belong to this decode call. */
  begin(span: Span): void {
    this.#columns = span.isRecording() ? createTokenColumns(span) : undefined;
  }

  add({ tokens, batchSize, stepUs }: DecodeTokens): void {
    if (this.#columns === undefined) return;
    let provenance = "";
    for (const token of tokens) {
      provenance += provenanceLetters[token.provenance - 1] ?? "?";
    }
    this.#columns.add({ provenance, batchSize, stepUs, ...this.#said(tokens) });
  }

  /** Before the call's span ends. */
  flush(): void {
    this.#columns?.flush();
    this.#columns = undefined;
  }

  /** The answer, for the sequence's span; empty unless content is captured. */
  output(): Attributes {
    return contentAttributes({
      captureContent: this.#stream !== undefined,
      output: this.#text.slice(0, textLengthMax),
    });
  }

  #said(
    tokens: DecodeTokens["tokens"],
  ): { ids: number[]; texts: string[] } | undefined {
    if (this.#stream === undefined) return undefined;
    const stream = this.#stream;
    const ids = tokens.map(({ id }) => id);
    const texts = ids.map((id) => stream.push(id));
    if (this.#text.length < textLengthMax) this.#text += texts.join("");
    return { ids, texts };
  }
}
