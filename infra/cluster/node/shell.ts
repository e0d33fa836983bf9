import { runProgram } from "../../process/mod.ts";
import { UserError } from "../../terminal/mod.ts";

/** Runs a program; throws with its last lines when it fails. */
export async function run(
  command: readonly string[],
  action: string,
): Promise<void> {
  const [program, ...args] = command;
  const { exitCode, tail } = await runProgram(program, args);
  if (exitCode === 0) return;
  throw new UserError(
    `Cannot ${action}: ${command.join(" ")} ended with ${exitCode}`,
    { hints: tail.map((line) => `| ${line}`) },
  );
}
