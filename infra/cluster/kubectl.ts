import { spawn } from "node:child_process";
import { once } from "node:events";

export interface KubectlOptions {
  /** Goes to its stdin, for `apply -f -`. */
  readonly input?: string;
  readonly signal?: AbortSignal;
}

/** Runs kubectl with these arguments and answers what it printed; throws with its complaint. */
export type Kubectl = (
  args: readonly string[],
  options?: KubectlOptions,
) => Promise<string>;

export class KubectlError extends Error {
  override readonly name = "KubectlError";
  readonly stderr: string;

  constructor(args: readonly string[], exitCode: number, stderr: string) {
    super(
      `Cannot run kubectl ${args.join(" ")}: ended with ${exitCode}: ${
        stderr.trim() || "it said nothing"
      }`,
    );
    this.stderr = stderr;
  }
}

export function createKubectl(
  { program, kubeconfig }: { program: string; kubeconfig: string },
): Kubectl {
  return async (args, { input, signal } = {}) => {
    const child = spawn(program, [...args], {
      env: { ...process.env, KUBECONFIG: kubeconfig },
      stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      signal,
    });
    let stdout = "";
    let stderr = "";
    child.stdout!.setEncoding("utf8").on("data", (text) => stdout += text);
    child.stderr!.setEncoding("utf8").on("data", (text) => stderr += text);
    // A kubectl that refuses its arguments does not read its input.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
    const [code] = await once(child, "close") as [number | null];
    if (code === 0) return stdout;
    throw new KubectlError(args, code ?? -1, stderr);
  };
}
