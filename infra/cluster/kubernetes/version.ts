import { runProgram } from "../../process/mod.ts";

/** 20 for a program that calls itself `Kubernetes v1.20.2`. */
export async function minorVersionOf(program: string): Promise<number> {
  const { tail } = await runProgram(program, ["--version"]);
  const minor = /v1\.(\d+)\./.exec(tail.join("\n"))?.[1];
  if (minor !== undefined) return Number(minor);
  throw new Error(
    `Cannot use ${program}: needs "Kubernetes v1.N", found "${
      tail.join(" ").slice(0, 200)
    }"`,
  );
}
