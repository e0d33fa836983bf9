import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { findProgram, systemPath } from "../process/mod.ts";

export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** A running process in a process group of its own. */
export interface Child {
  readonly pid: number;
  /** How it ended: "exit code 1", "signal SIGKILL". */
  readonly ended: Promise<string>;
  /** To the whole group; does nothing once the group is gone. */
  signal(name: NodeJS.Signals): void;
}

/**
 * Starts a process that cannot outlive us.
 *
 * It gets its own process group, so that a Ctrl-C of the terminal reaches only
 * us and we choose the order of stopping. That would leave it running when we
 * are killed outright; so the kernel is told (prctl PR_SET_PDEATHSIG, through
 * util-linux's `setpriv`) to kill it then. This needs nothing of the program:
 * it holds for our services on any runtime and for the NATS server.
 */
export function startChild(
  command: Command,
  onLine: (line: string) => void,
): Child {
  const { program, args } = boundToUs(command);
  const child = spawn(program, [...args], {
    detached: true,
    env: { ...process.env, PATH: systemPath(), ...command.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  for (const input of [child.stdout, child.stderr]) {
    createInterface({ input }).on("line", onLine);
  }
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(`not started: ${error.message}`));
    child.once("exit", (code, signal) => {
      const how = signal ? `signal ${signal}` : `exit code ${code}`;
      // Its last lines are still in the pipe; but a process it left behind may
      // hold that pipe open for good.
      child.once("close", () => resolve(how));
      setTimeout(() => resolve(how), lastLinesMs);
    });
  });
  const pid = child.pid ?? 0;
  return { pid, ended, signal: (name) => signalGroup(pid, name) };
}

const lastLinesMs = 250;

const setpriv = findProgram("setpriv");

function boundToUs({ program, args }: Command): Command {
  if (!setpriv) return { program, args };
  return {
    program: setpriv,
    args: ["--pdeathsig", "KILL", "--", program, ...args],
  };
}

function signalGroup(pid: number, name: NodeJS.Signals): void {
  if (pid === 0) return;
  try {
    process.kill(-pid, name);
  } catch (error) {
    // ESRCH: the group has ended, which is what signals here are for.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
