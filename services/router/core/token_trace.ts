import type { Attributes, Span } from "@opentelemetry/api";
import {
  contentAttributes,
  createTokenColumns,
  provenanceLetters,
  type TokenColumns,
} from "../../../lib/telemetry/mod.ts";
import type { DecodeTokens } from "../../../proto/gen/quetzal/v1/decode.ts";

/** Longer answers are cut in the trace, not for the client. */
const textLengthMax = 65_536;

/**
 * Every token of one sequence for its trace: when it came, how it came about and, when content
 * may be captured, what it says. Across the workers that the sequence ran on.
 */
export class TokenTrace {
  /** Content may be captured: `add` wants to know what the tokens say. */
  readonly wantsText: boolean;
  #columns: TokenColumns | undefined;
  #text = "";

  constructor(wantsText: boolean) {
    this.wantsText = wantsText;
  }

  /** The tokens that follow belong to this decode call. */
  begin(span: Span): void {
    this.#columns = span.isRecording() ? createTokenColumns(span) : undefined;
  }

  /** @param texts What each token says, where that is wanted. */
  add({ tokens, batchSize, stepUs }: DecodeTokens, texts?: string[]): void {
    if (this.#columns === undefined) return;
    let provenance = "";
    for (const token of tokens) {
      provenance += provenanceLetters[token.provenance - 1] ?? "?";
    }
    if (texts === undefined) {
      this.#columns.add({ provenance, batchSize, stepUs });
      return;
    }
    const ids = tokens.map(({ id }) => id);
    this.#columns.add({ provenance, batchSize, stepUs, ids, texts });
    if (this.#text.length < textLengthMax) this.#text += texts.join("");
  }

  /** Before the call's span ends. */
  flush(): void {
    this.#columns?.flush();
    this.#columns = undefined;
  }

  /** The answer, for the sequence's span; empty unless content is captured. */
  output(): Attributes {
    return contentAttributes({
      captureContent: this.wantsText,
      output: this.#text.slice(0, textLengthMax),
    });
  }
}
