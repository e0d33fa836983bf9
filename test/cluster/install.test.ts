/** What an API server says to the whole installation, without pods. */
import { equal, match, ok } from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, test } from "vitest";
import { type Cluster, startControlCluster } from "../../infra/cluster/mod.ts";
import { type TempDir, tempDir, waitFor } from "../../lib/testing/mod.ts";
import { k8sFolder, overlays } from "./manifests/render.ts";

let folder: TempDir;
let cluster: Cluster;

beforeAll(async () => {
  folder = await tempDir("install");
  cluster = await startControlCluster({ folder: join(folder.path, "k8s") });
});
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

/** The overlay ha as Kubernetes 1.20 takes it: see its comment. */
const budgetsBefore121 = "options/disruption-budgets-v1beta1";

test.each(overlays)("Kubernetes takes every object of %s", async (overlay) => {
  const { kubectl } = cluster;
  // Kubernetes changes neither a Job nor the volumes of a StatefulSet.
  await kubectl([
    ...["delete", "jobs,statefulsets", "--all", "--namespace", "quetzal"],
    "--ignore-not-found",
  ]);
  const refusal = await kubectl(["apply", "-k", join(k8sFolder, overlay)])
    .then(() => "", (error: Error) => error.message);
  if (overlay === "overlays/ha" && await isBefore121()) {
    // Only the budgets: their version is not there yet, and the older one is.
    const faults = refusal.split("\n").filter((line) =>
      /no matches/.test(line)
    );
    equal(faults.length, 3);
    for (const fault of faults) {
      match(fault, /PodDisruptionBudget.*policy\/v1"/);
    }
    await kubectl(["apply", "-k", join(k8sFolder, budgetsBefore121)]);
  } else equal(refusal, "");
}, 120_000);

test(
  "Kubernetes of any age takes ha whole, with the budgets that are documented for it",
  async () => {
    const own = join(folder.path, "own");
    cpSync(k8sFolder, own, { recursive: true });
    const file = join(own, "overlays/ha/kustomization.yaml");
    const text = readFileSync(file, "utf8");
    const replaced = text.replace(
      /(options\/disruption-budgets)$/m,
      "$1-v1beta1",
    );
    ok(replaced !== text);
    if (await isBefore121()) writeFileSync(file, replaced);
    const answer = await cluster.kubectl([
      ...["apply", "--dry-run=server", "-k", join(own, "overlays/ha")],
    ]);
    equal(
      answer.match(/^poddisruptionbudget\S* .*\(server dry run\)$/gm)?.length,
      3,
    );
  },
  120_000,
);

test(
  "Kubernetes takes the objects that overlays seed, and fills in defaults",
  async () => {
    const { kubectl } = cluster;
    await waitFor(
      async () =>
        (await kubectl(["get", "crd", "models.quetzal.dev", "-o", "yaml"]))
          .includes("reason: InitialNamesAccepted"),
      { what: "the CRDs", intervalMs: 200 },
    );
    for (const overlay of overlays) {
      const objects = join(k8sFolder, overlay, "objects");
      const files = readdirSync(join(k8sFolder, overlay)).includes("objects")
        ? readdirSync(objects)
        : [];
      for (const file of files) {
        await kubectl(["apply", "-n", "quetzal", "-f", join(objects, file)]);
      }
    }
    const policy = await kubectl([
      ...["get", "model", "quetzal-demo", "-n", "quetzal"],
      ...["-o", "jsonpath={.spec.scaling.policy}"],
    ]);
    ok(policy !== "");
  },
  120_000,
);

async function isBefore121(): Promise<boolean> {
  const groups = await cluster.kubectl(["api-versions"]);
  return !groups.split("\n").includes("policy/v1");
}
