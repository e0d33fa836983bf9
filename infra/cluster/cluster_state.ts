import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { UserError } from "../terminal/mod.ts";
import { type DaemonRecord, isAlive, stopDaemon } from "./daemon.ts";
import type { ClusterMode } from "./kubernetes/programs.ts";
import type { KernelSettings } from "./node/kernel_settings.ts";

/** What a cluster leaves behind, so that another process can stop it or say how it is. */
export interface ClusterState {
  readonly mode: ClusterMode;
  readonly url: string;
  readonly kubeconfig: string;
  /** Certificates, etcd's data, logs. */
  readonly folder: string;
  /** In the order in which they were started. */
  readonly daemons: readonly DaemonRecord[];
  /** Of a node: what they were before. */
  readonly kernelSettings?: KernelSettings;
}

export function readState(folder: string): ClusterState | undefined {
  const file = fileIn(folder);
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, "utf8")) as ClusterState;
  } catch (error) {
    throw new UserError(`Cannot read ${file}: it is not JSON`, {
      hints: ["Written by `cluster up`; remove it when no cluster runs there."],
      cause: error,
    });
  }
}

export function writeState(folder: string, state: ClusterState): void {
  mkdirSync(folder, { recursive: true });
  const half = `${fileIn(folder)}.half`;
  writeFileSync(half, `${JSON.stringify(state, undefined, 2)}\n`);
  renameSync(half, fileIn(folder));
}

export function removeState(folder: string): void {
  rmSync(fileIn(folder), { force: true });
}

export function aliveIn({ daemons }: ClusterState): DaemonRecord[] {
  return daemons.filter(isAlive);
}

/**
 * Last started, first stopped: who asks goes before who is asked. Killed, not
 * asked: all they hold is thrown away, and an API server waits for its clients.
 */
export async function stopDaemonsOf(
  daemons: readonly DaemonRecord[],
): Promise<void> {
  for (const daemon of [...daemons].reverse()) {
    await stopDaemon(daemon, { signal: "SIGKILL" });
  }
}

function fileIn(folder: string): string {
  return join(folder, "cluster.json");
}
