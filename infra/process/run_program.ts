import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface RunResult {
  /** 128 + signal number is not used: a signal is reported as -1. */
  readonly exitCode: number;
  /** The last lines of stdout and stderr together. */
  readonly tail: readonly string[];
}

const tailLines = 20;

/** Runs a program to its end, without input; `onLine` sees each line it prints. */
export function runProgram(
  command: string,
  args: readonly string[],
  { cwd, env, onLine = () => {} }: {
    cwd?: string;
    env?: Readonly<Record<string, string | undefined>>;
    onLine?: (line: string) => void;
  } = {},
): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const tail: string[] = [];
    for (const input of [child.stdout, child.stderr]) {
      createInterface({ input }).on("line", (line) => {
        tail.push(line);
        if (tail.length > tailLines) tail.shift();
        onLine(line);
      });
    }
    child.once("error", reject);
    child.once("close", (code) => resolve({ exitCode: code ?? -1, tail }));
  });
}
