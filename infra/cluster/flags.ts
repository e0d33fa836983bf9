import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { denoTask, UserError } from "../terminal/mod.ts";
import type { ClusterMode } from "./kubernetes/programs.ts";

export interface ClusterCommand {
  readonly action: "up" | "down" | "status";
  readonly mode: ClusterMode;
  /** Certificates, etcd's data, logs. */
  readonly folder: string;
  /** OCI archives that the node knows from the start. */
  readonly images: readonly string[];
  readonly json: boolean;
}

export const clusterHelp = `Runs a real Kubernetes on this machine.

  ${denoTask} cluster up|down|status [flags]

  up       starts it and returns when it is ready
  down     stops everything that up started, and removes what it left
  status   says what runs; ends with 1 when nothing does

  --mode NAME     control: etcd, API server, controller manager, scheduler, on
                  free ports of loopback; needs no root (control)
                  node: the same in a network namespace of its own, with
                  containerd, kubelet and kube-proxy: pods run; needs root
  --data FOLDER   certificates, etcd's data, logs (.quetzal/cluster-MODE)
  --image FILE    an OCI archive that the node is to know, as \`task images\` makes
                  them; repeatable; --mode node only
  --json          one JSON object on stdout
  --help

The programs come from the folder that KUBEBUILDER_ASSETS names; without it they
are built from Debian's source package the first time, which takes about five
minutes on two cores, and kept in ~/.cache/quetzal.
`;

type Env = Readonly<Record<string, string | undefined>>;

const actions = ["up", "down", "status"] as const;
const modes = ["control", "node"] as const;

/** Reads the command line; reports all faults at once. */
export function parseClusterFlags(
  args: readonly string[],
  { env, root }: { env: Env; root: string },
): ClusterCommand | "help" {
  const { values, positionals } = readFlags(args);
  if (values.help) return "help";
  const faults: string[] = [];
  const action = actions.find((name) => name === positionals[0]);
  if (action === undefined || positionals.length > 1) {
    faults.push(
      `the command is "${positionals.join(" ")}", expected one of ${
        actions.join(", ")
      }`,
    );
  }
  const mode = modes.find((name) => name === values.mode);
  if (mode === undefined) {
    faults.push(
      `--mode is "${values.mode}", expected one of ${modes.join(", ")}`,
    );
  }
  const from = env.INIT_CWD || root;
  const images = values.image.map((file) => resolve(from, file));
  if (mode === "control" && images.length > 0) {
    faults.push("--image needs --mode node: a control plane runs no pods");
  }
  for (const file of images.filter((file) => !existsSync(file))) {
    faults.push(`--image ${file} does not exist`);
  }
  if (faults.length > 0) throw misuse(faults.join("; "));
  const folder = values.data === undefined
    ? join(root, ".quetzal", `cluster-${mode}`)
    : resolve(from, values.data);
  return { action: action!, mode: mode!, folder, images, json: values.json };
}

function readFlags(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        mode: { type: "string", default: "control" },
        data: { type: "string" },
        image: { type: "string", multiple: true, default: [] },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw misuse((error as Error).message);
  }
}

function misuse(what: string): UserError {
  return new UserError(`Cannot run a cluster: ${what}`, {
    hints: [`${denoTask} cluster --help lists commands and flags`],
    exitCode: 2,
  });
}
