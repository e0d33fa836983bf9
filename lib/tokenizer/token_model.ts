/** How one vocabulary family turns text into ids and ids into bytes. */
export interface TokenModel {
  /**
   * Appends the ids of a text that holds no special tokens. `first` says that
   * it stands at the beginning or right after a special token.
   */
  encode(text: string, first: boolean, ids: number[]): void;
  /** The bytes of a token which is not special. */
  bytesOf(id: number): Uint8Array;
  /** Whether decoding drops one space at the beginning, which encoding added. */
  readonly addsSpace: boolean;
}
