export interface Column<T> {
  readonly title: string;
  readonly of: (row: T) => string;
  /** Numbers stand at the right. */
  readonly right?: boolean;
  /** Cut beyond; 40 unless set. */
  readonly max?: number;
}

/** Rows under their titles, as wide as what they hold. */
export function textTable<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
): string {
  const cells = rows.map((row) =>
    columns.map(({ of, max = 40 }) => cut(harmless(of(row)), max))
  );
  const widths = columns.map(({ title }, i) =>
    Math.max(title.length, ...cells.map((line) => line[i].length))
  );
  const line = (texts: readonly string[]) =>
    texts.map((text, i) =>
      columns[i].right ? text.padStart(widths[i]) : text.padEnd(widths[i])
    ).join("  ").trimEnd();
  return [line(columns.map(({ title }) => title)), ...cells.map(line)]
    .join("\n");
}

/** Names come from requests: an escape sequence in one could rewrite the screen. */
export function harmless(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\ufffd");
}

export function ms(value: number | null): string {
  if (value === null) return "–";
  if (value >= 10_000) return `${(value / 1_000).toFixed(1)} s`;
  return `${value.toFixed(value < 10 ? 2 : 0)} ms`;
}

export function count(value: number | null): string {
  return value === null ? "–" : `${Math.round(value * 10) / 10}`;
}

export function bytes(value: number): string {
  if (value < 1_024) return `${value} B`;
  if (value < 1_048_576) return `${(value / 1_024).toFixed(1)} KiB`;
  return `${(value / 1_048_576).toFixed(1)} MiB`;
}

function cut(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`;
}
