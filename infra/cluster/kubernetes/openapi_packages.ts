import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const marker = "+k8s:openapi-gen=";

/** Go packages of Kubernetes whose types belong into its OpenAPI definitions. */
export function openApiPackages(tree: string): string[] {
  const staged = readdirSync(join(tree, "vendor/k8s.io"))
    .filter((name) => name !== "code-generator" && name !== "sample-apiserver")
    .map((name) => join("vendor/k8s.io", name));
  const folders = ["pkg", "cmd", "plugin", ...staged]
    .flatMap((folder) => goFiles(tree, folder))
    .filter((file) => readFileSync(join(tree, file), "utf8").includes(marker))
    .map((file) => `k8s.io/kubernetes/${dirname(file)}`);
  return [...new Set(folders)].sort();
}

function goFiles(tree: string, folder: string): string[] {
  // Entries of vendor/k8s.io are links into staging/.
  return readdirSync(join(tree, folder), { recursive: true, encoding: "utf8" })
    .filter((name) =>
      name.endsWith(".go") && !name.endsWith("_test.go") &&
      !name.includes("zz_generated")
    )
    .map((name) => join(folder, name));
}
