import { stringify } from "yaml";
import { toMarkdown } from "./markdown.ts";
import { definitions, group, toCrd } from "./mod.ts";

/** What is generated from the tables: file name in the repository, and content. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const crds = definitions.map((definition) =>
    [`${definition.plural}.yaml`, toCrd(definition)] as const
  );
  return new Map([
    ...crds.map(([name, crd]) =>
      [
        `k8s/crds/${name}`,
        `# ${group}: made by \`deno task crds\`; do not edit.\n${yaml(crd)}`,
      ] as const
    ),
    [
      "k8s/crds/kustomization.yaml",
      "# Made by `deno task crds`; do not edit.\n" + yaml({
        apiVersion: "kustomize.config.k8s.io/v1beta1",
        kind: "Kustomization",
        resources: crds.map(([name]) => name),
      }),
    ],
    ["docs/operations/crds.md", toMarkdown(definitions)],
  ]);
}

/** As `deno fmt` leaves it: long lines are not folded. */
function yaml(value: unknown): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
}
