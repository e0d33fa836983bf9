import { type Output, styleOf } from "./style.ts";

/**
 * A failure its reader can mend: shown without a stack.
 *
 * The message states the action, what it needed and what it found; each hint is
 * a line that says what to do.
 */
export class UserError extends Error {
  override readonly name = "UserError";
  readonly hints: readonly string[];
  /** 1 unless set; 2 for a command line that cannot be understood. */
  readonly exitCode: number;

  constructor(
    message: string,
    { hints = [], exitCode = 1, cause }: {
      hints?: readonly string[];
      exitCode?: number;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause });
    this.hints = hints;
    this.exitCode = exitCode;
  }
}

/** Prints a `UserError` for its reader, anything else with its stack; sets the exit code. */
export function endWithError(
  error: unknown,
  output: Output = process.stderr,
): void {
  const style = styleOf(output);
  if (error instanceof UserError) {
    output.write(`${style.red("error:")} ${error.message}\n`);
    for (const hint of error.hints) output.write(`  ${hint}\n`);
    process.exitCode = error.exitCode;
    return;
  }
  const text = error instanceof Error ? error.stack : String(error);
  output.write(`${style.red("error:")} ${text}\n`);
  process.exitCode = 1;
}
