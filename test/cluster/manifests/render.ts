import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { findProgram } from "../../../infra/process/mod.ts";

export const k8sFolder = fileURLToPath(
  new URL("../../../k8s", import.meta.url),
);

/** The parts of Kubernetes objects that our rules are about. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  // deno-lint-ignore no-explicit-any -- each kind has its own; tests name the fields
  readonly [field: string]: any;
}

export const overlays = foldersIn("overlays");
export const options = foldersIn("options");

function foldersIn(name: string): string[] {
  return readdirSync(join(k8sFolder, name)).sort()
    .map((folder) => `${name}/${folder}`);
}

/** What `kubectl apply -k` would send. */
export function render(folder: string): Manifest[] {
  const kubectl = findProgram("kubectl");
  if (!kubectl) throw new Error("needs kubectl: task setup --profile cluster");
  const { status, stdout, stderr } = spawnSync(
    kubectl,
    ["kustomize", join(k8sFolder, folder)],
    { encoding: "utf8", maxBuffer: 1 << 26 },
  );
  if (status !== 0) throw new Error(`kubectl kustomize ${folder}: ${stderr}`);
  return parseAllDocuments(stdout)
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest) => manifest !== null);
}

export interface Workload {
  readonly name: string;
  readonly kind: string;
  readonly labels: Readonly<Record<string, string>>;
  // deno-lint-ignore no-explicit-any -- the Pod API; tests name the fields
  readonly pod: any;
}

export function workloadsIn(manifests: readonly Manifest[]): Workload[] {
  return manifests
    .filter(({ kind }) => ["Deployment", "StatefulSet", "Job"].includes(kind))
    .map(({ kind, metadata, spec }) => ({
      kind,
      name: metadata.name,
      labels: spec.template.metadata.labels,
      pod: spec.template.spec,
    }));
}
