/**
 * What a node leaves on the machine, and its removal. It works from what is
 * found, not from what somebody remembers: the processes that knew may have been
 * killed.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { runProgram } from "../../process/mod.ts";
import {
  containerdSocket,
  namespaceFile,
  namespaceName,
  runFolder,
} from "./addresses.ts";
import { cgroupProcesses, removeCgroups } from "./cgroups.ts";
import {
  type KernelSettings,
  restoreKernelSettings,
} from "./kernel_settings.ts";
import { podNamespaces, removeNetwork } from "./network.ts";

/** Once kubelet and containerd are gone: ends pods, removes mounts, namespace, control groups. */
export async function removeLeftovers(
  { folder, kernelSettings }: {
    folder: string;
    kernelSettings?: KernelSettings;
  },
): Promise<void> {
  await endProcesses(shims);
  await endProcesses(cgroupProcesses);
  await unmountBelow(folder);
  await unmountBelow(runFolder);
  await removeNetwork();
  removeCgroups();
  if (kernelSettings) restoreKernelSettings(kernelSettings);
  rmSync(runFolder, { recursive: true, force: true });
  for (
    const name of [
      "containerd",
      "kubelet",
      "etcd",
      "pki",
      "cni",
      "cni-addresses",
    ]
  ) {
    rmSync(join(folder, name), { recursive: true, force: true });
  }
}

/** What of a node is on this machine, in words; nothing once it is removed. */
export async function nodeLeftovers(): Promise<string[]> {
  const pids = [...shims(), ...cgroupProcesses()];
  const namespaces = [
    ...(existsSync(namespaceFile) ? [namespaceName] : []),
    ...await podNamespaces(),
  ];
  return [
    ...pids.map((pid) => `process ${pid}`),
    ...namespaces.map((name) => `network namespace ${name}`),
    ...mountsBelow(runFolder).map((path) => `mount ${path}`),
  ];
}

const patienceMs = 10_000;

async function endProcesses(find: () => number[]): Promise<void> {
  const deadlineMs = performance.now() + patienceMs;
  for (let pids = find(); pids.length > 0; pids = find()) {
    if (performance.now() > deadlineMs) {
      throw new Error(`Cannot end the node's processes: ${pids} stay`);
    }
    for (const pid of pids) kill(pid);
    await delay(50);
  }
}

/** containerd's watchers of single containers, told by the socket they report to. */
function shims(): number[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      const command = commandOf(pid);
      return command[0]?.includes("containerd-shim") &&
        command.includes(containerdSocket);
    })
    .map(Number);
}

function commandOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    // It ended between the two looks.
    return [];
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

async function unmountBelow(folder: string): Promise<void> {
  // The last mounted lie on top of the others.
  for (const path of mountsBelow(folder).reverse()) {
    await runProgram("umount", ["--lazy", path]);
  }
}

function mountsBelow(folder: string): string[] {
  return readFileSync("/proc/mounts", "utf8").split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((path) => path.startsWith(`${folder}/`));
}
