/** Where text goes: `process.stderr`, or an object in a test. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

type Paint = (text: string) => string;

/** Colours for a terminal; plain text elsewhere and with `NO_COLOR`. */
export interface Style {
  readonly bold: Paint;
  readonly dim: Paint;
  readonly red: Paint;
  readonly green: Paint;
  readonly yellow: Paint;
}

export function styleOf(
  output: Output,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Style {
  const plain = !output.isTTY || Boolean(env.NO_COLOR);
  const paint = (on: number, off: number): Paint => (text) =>
    plain ? text : `\x1b[${on}m${text}\x1b[${off}m`;
  return {
    bold: paint(1, 22),
    dim: paint(2, 22),
    red: paint(31, 39),
    green: paint(32, 39),
    yellow: paint(33, 39),
  };
}
