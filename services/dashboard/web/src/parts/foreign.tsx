/** @jsxImportSource preact */
/** Text from spans and workers: other people's, and never more than text. */

/** Text cannot grow the page beyond this; the rest is counted. */
const lengthMax = 20_000;

// Controls, and characters that turn the direction of what follows or hide in it.
const tricks =
  // deno-lint-ignore no-control-regex
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** With invisible and direction-turning characters spelled out, cut at `max`. */
export function tame(text: string, max = lengthMax): string {
  const cut = text.length > max ? text.slice(0, max) : text;
  const shown = cut.replace(
    tricks,
    (char) =>
      `‹${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}›`,
  );
  const left = text.length - cut.length;
  return left > 0 ? `${shown}… (${left} more characters)` : shown;
}

interface ForeignProps {
  readonly text: string | null | undefined;
  readonly max?: number;
  readonly class?: string;
}

/** Isolated, so that right-to-left text stays in its place. */
export function Foreign({ text, max = 200, class: name }: ForeignProps) {
  if (text === null || text === undefined || text === "") {
    return <span class="muted">–</span>;
  }
  return (
    <bdi class={name} title={text.length > max ? tame(text, 2_000) : undefined}>
      {tame(text, max)}
    </bdi>
  );
}
