import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { findProgram, runProgram } from "../../process/mod.ts";
import { UserError } from "../../terminal/mod.ts";
import {
  type DaemonRecord,
  type DaemonSpec,
  isAlive,
  logTail,
} from "../daemon.ts";
import {
  addresses,
  containerdSocket,
  inNamespace,
  runFolder,
} from "./addresses.ts";
import { run } from "./shell.ts";

/** Holds the network of a pod; see `pause.c`. */
export const pauseImage = "quetzal.local/pause:1";

/** The folder holds images and root file systems: nothing of a containerd that runs here already. */
export function containerdSpec(folder: string): DaemonSpec {
  const cni = join(folder, "cni");
  mkdirSync(cni, { recursive: true });
  mkdirSync(runFolder, { recursive: true });
  const network = join(cni, "10-quetzal.conflist");
  writeFileSync(network, JSON.stringify(podNetwork(folder), undefined, 2));
  const config = join(folder, "containerd.toml");
  writeFileSync(config, containerdConfig(folder, cni));
  const [program, ...args] = [
    ...inNamespace,
    findProgram("containerd") ?? "containerd",
    "--config",
    config,
  ];
  return {
    name: "containerd",
    program,
    args,
    cwd: folder,
    logFile: join(folder, "containerd.log"),
  };
}

function containerdConfig(folder: string, cni: string): string {
  const cri = "io.containerd.grpc.v1.cri";
  return `version = 2
root = "${join(folder, "containerd")}"
state = "${join(runFolder, "containerd")}"
[grpc]
  address = "${containerdSocket}"
[plugins."${cri}"]
  sandbox_image = "${pauseImage}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE a score cannot go below that of containerd itself.
  restrict_oom_score_adj = true
  [plugins."${cri}".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${cni}"
  [plugins."${cri}".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."${cri}".containerd.runtimes.runc.options]
      BinaryName = "${findProgram("runc") ?? "runc"}"
      SystemdCgroup = false
`;
}

function podNetwork(folder: string) {
  return {
    cniVersion: "0.4.0",
    name: "quetzal",
    plugins: [
      {
        type: "bridge",
        bridge: "cni0",
        isGateway: true,
        hairpinMode: true,
        ipam: {
          type: "host-local",
          ranges: [[{ subnet: addresses.podRange }]],
          routes: [{ dst: "0.0.0.0/0" }],
          dataDir: join(folder, "cni-addresses"),
        },
      },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  };
}

const ctr = ["ctr", "--address", containerdSocket, "--namespace", "k8s.io"];

const readyWithinMs = 30_000;

export async function containerdReady(daemon: DaemonRecord): Promise<void> {
  const deadlineMs = performance.now() + readyWithinMs;
  while ((await runProgram("ctr", [...ctr.slice(1), "version"])).exitCode) {
    if (isAlive(daemon) && performance.now() < deadlineMs) {
      await delay(100);
      continue;
    }
    throw new UserError(
      "Cannot start containerd: it " +
        (isAlive(daemon) ? "does not answer" : "ended"),
      { hints: logTail(daemon).map((line) => `| ${line}`) },
    );
  }
}

/** Makes the images of an OCI archive known to the node. */
export async function importImages(archive: string): Promise<void> {
  await run([...ctr, "images", "import", archive], `import ${archive}`);
}
