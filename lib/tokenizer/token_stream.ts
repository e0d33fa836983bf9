import type { TokenStream } from "./types.ts";

/** What a token stands for. */
export interface TokenPiece {
  readonly bytes: Uint8Array;
  /** Absent where the bytes are no whole characters; few tokens are like that. */
  readonly text: string | undefined;
}

export interface TokenStreamOptions {
  pieceOf: (id: number) => TokenPiece;
  /** Drop one space at the very beginning: SPM encoding put it there. */
  dropSpace: boolean;
}

/**
 * Bytes of tokens come in, whole characters go out. The decoder of the platform
 * holds back an incomplete character, and replaces a broken one by U+FFFD just as
 * it does over the whole text, so the pieces always join to the decoded whole.
 */
export function createTokenStream(
  { pieceOf, dropSpace }: TokenStreamOptions,
): TokenStream {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let atStart = dropSpace;
  /** Nothing is held back, so that a whole token needs no decoder. */
  let isEmpty = true;
  return {
    push(id) {
      const { bytes: all, text } = pieceOf(id);
      if (isEmpty && !atStart && text !== undefined) return text;
      let bytes = all;
      if (atStart && bytes.length > 0) {
        if (bytes[0] === 0x20) bytes = bytes.subarray(1);
        atStart = false;
      }
      // Whole characters end one that was cut; bytes may begin another.
      if (bytes.length > 0) isEmpty = text !== undefined;
      return decoder.decode(bytes, { stream: true });
    },
    end: () => decoder.decode(),
  };
}

/** The text of all bytes at once; equal to what a stream of them joins to. */
export function decodeBytes(
  parts: readonly Uint8Array[],
  dropSpace: boolean,
): string {
  const bytes = new Uint8Array(
    parts.reduce((sum, part) => sum + part.length, 0),
  );
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  const start = dropSpace && bytes[0] === 0x20 ? 1 : 0;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(
    bytes.subarray(start),
  );
}
