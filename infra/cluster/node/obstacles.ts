import { readFileSync } from "node:fs";
import { runProgram } from "../../process/mod.ts";

const trial = "quetzal-trial";

/**
 * What keeps pods from running here: not root, or a kernel that refuses what a
 * node needs. Empty when nothing does. Tries it: a sandbox that forbids it says
 * so in many ways, and only then.
 */
export async function nodeObstacles(): Promise<string[]> {
  if (process.getuid?.() !== 0) return ["a node needs root"];
  // Parts of the kernel, on a machine that has them as modules; else nothing to do.
  await runProgram("modprobe", ["--all", "overlay", "br_netfilter"])
    .catch(() => {});
  const trials: [what: string, command: string][] = [
    ["network namespaces", `ip netns add ${trial}`],
    [
      "network bridges",
      `ip netns exec ${trial} ip link add b0 type bridge`,
    ],
    [
      "linked network devices (veth)",
      `ip netns exec ${trial} ip link add v0 type veth peer name v1`,
    ],
    [
      "iptables with address translation",
      `ip netns exec ${trial} iptables -t nat -A POSTROUTING -m comment --comment x -j MASQUERADE`,
    ],
  ];
  const obstacles: string[] = [];
  for (const [what, command] of trials) {
    const [program, ...args] = command.split(" ");
    const { exitCode, tail } = await runProgram(program, args)
      .catch((error: Error) => ({ exitCode: -1, tail: [error.message] }));
    if (exitCode === 0) continue;
    obstacles.push(`no ${what}: ${tail.at(-1) ?? `ended with ${exitCode}`}`);
    // The others would only repeat it.
    break;
  }
  await runProgram("ip", ["netns", "delete", trial]).catch(() => {
    // No `ip` at all: that is an obstacle by now.
  });
  if (!/\boverlay$/m.test(readFileSync("/proc/filesystems", "utf8"))) {
    obstacles.push("no overlay file system");
  }
  return obstacles;
}
