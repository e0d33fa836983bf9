/**
 * Names inside NATS subjects and KV keys.
 *
 * A token of a subject holds neither dots, blanks nor wildcards, and a KV key only
 * letters, digits and `-/_=.`. Letters, digits, `-` and `_` stand for themselves; every
 * other byte of the UTF-8 text becomes `=XX`: `qwen2.5-0.5b` is `qwen2=2E5-0=2E5b`.
 * The empty text is a lone `=`.
 */
export function encodeToken(text: string): string {
  if (text === "") return "=";
  if (/^[\w-]+$/.test(text)) return text;
  return Array.from(encoder.encode(text), encodeByte).join("");
}

/** The text again; `undefined` for a token `encodeToken()` never makes. */
export function decodeToken(token: string): string | undefined {
  if (token === "=") return "";
  const bytes: number[] = [];
  for (let i = 0; i < token.length; i++) {
    const escaped = token[i] === "=" ? token.slice(i + 1, i + 3) : undefined;
    bytes.push(escaped ? parseInt(escaped, 16) : token.charCodeAt(i));
    if (escaped) i += 2;
  }
  const text = decoder.decode(Uint8Array.from(bytes));
  return encodeToken(text) === token ? text : undefined;
}

const encoder = new TextEncoder();
// Keeps a leading byte order mark, which it would drop otherwise.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function encodeByte(byte: number): string {
  const char = String.fromCharCode(byte);
  return byte < 0x80 && /[\w-]/.test(char)
    ? char
    : `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
}
