/**
 * A branch of its own in the kernel's control groups, so that our pods are told
 * from those of a kubelet that this machine may run itself. With version 1 there
 * is one tree for each controller; with version 2 there is one in all.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

const mount = "/sys/fs/cgroup";

/** For kubelet's `cgroupRoot`. */
export const cgroupRoot = "/quetzal-node";

export function createCgroups(): void {
  for (const tree of trees()) {
    const folder = join(tree, cgroupRoot);
    mkdirSync(folder, { recursive: true });
    // A cpuset without processors takes no process.
    for (const name of ["cpuset.cpus", "cpuset.mems"]) {
      const above = join(tree, name);
      if (!existsSync(above)) continue;
      writeFileSync(join(folder, name), readFileSync(above, "utf8"));
    }
    // Else all pods together would get the time of one process of this machine.
    for (const [name, weight] of [["cpu.shares", 4096], ["cpu.weight", 400]]) {
      const file = join(folder, `${name}`);
      if (existsSync(file)) writeFileSync(file, `${weight}`);
    }
  }
}

/** The processes in it, which are those of pods. */
export function cgroupProcesses(): number[] {
  const pids = trees().flatMap((tree) => foldersIn(join(tree, cgroupRoot)))
    .flatMap((folder) => readPids(join(folder, "cgroup.procs")));
  return [...new Set(pids)];
}

/** Removes the branch; what still has processes stays. */
export function removeCgroups(): void {
  for (const tree of trees()) {
    for (const folder of foldersIn(join(tree, cgroupRoot)).reverse()) {
      try {
        rmdirSync(folder);
      } catch {
        // A process that is just ending: the folder harms nobody.
      }
    }
  }
}

function trees(): string[] {
  if (existsSync(join(mount, "cgroup.controllers"))) return [mount];
  return readdirSync(mount, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(mount, name));
}

/** The folder and all below it, parents first. */
function foldersIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  const below = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => foldersIn(join(folder, name)));
  return [folder, ...below];
}

function readPids(file: string): number[] {
  try {
    return readFileSync(file, "utf8").split("\n").filter(Boolean).map(Number);
  } catch {
    // The group ended between the two looks.
    return [];
  }
}
