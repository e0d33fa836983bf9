/** Text to token ids and back; one per model. */
export interface Tokenizer {
  readonly vocabSize: number;
  /** No token stands for more bytes of text than these. */
  readonly tokenBytesMax: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  /** Tokens that end generation: eos, eot, eom and their kin. */
  readonly endIds: readonly number[];
  /**
   * `addSpecial` adds begin-of-text (and end-of-text) as the file asks, default
   * true; `parseSpecial` turns the text of control tokens into their ids, default
   * false, as user text must not forge control tokens.
   */
  encode(text: string, options?: EncodeOptions): Int32Array;
  /** Control tokens are left out unless `special`; bad UTF-8 becomes U+FFFD. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** Raw bytes of one token: part of a character, perhaps; empty for control tokens unless `special`. */
  tokenBytes(id: number, options?: { special?: boolean }): Uint8Array;
  /** A decoder of one stream. */
  stream(options?: DecodeOptions): TokenStream;
}

export interface EncodeOptions {
  addSpecial?: boolean;
  parseSpecial?: boolean;
  /**
   * Stretches of the text, in order, as UTF-16 offsets: no control token is parsed
   * where it touches one. Chat encoding marks what users wrote.
   */
  plainRanges?: readonly (readonly [start: number, end: number])[];
}

export interface DecodeOptions {
  /** Spell control tokens out. */
  special?: boolean;
  /**
   * The ids go on after other text, as generated ones do: a space which they
   * begin with is kept, where SPM decoding would drop it.
   */
  continues?: boolean;
}

/** Incremental detokenizer: gives out whole characters only. */
export interface TokenStream {
  push(id: number): string;
  /** What is still held back, an incomplete character as U+FFFD. */
  end(): string;
}

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly [key: string]: unknown;
}

/** The chat template of one model. */
export interface ChatTemplate {
  /** Throws `MeshError(invalidArgument)` with the template's own complaint. */
  render(
    messages: readonly ChatMessage[],
    options?: RenderOptions,
  ): string;
}

export interface RenderOptions {
  addGenerationPrompt?: boolean;
  tools?: unknown;
  /** Further names a template may ask for: `enable_thinking`, `documents`. */
  variables?: Readonly<Record<string, unknown>>;
  /** The clock behind `strftime_now`; the present by default. */
  now?: () => Date;
}
