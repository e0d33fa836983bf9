import { apiVersion, type Definition } from "./definition.ts";
import type { Field, SchemaKind } from "./schema.ts";

/** `docs/operations/crds.md`: every field of every resource. */
export function toMarkdown(definitions: readonly Definition[]): string {
  return [
    "# Every field of Model, WorkerPool and QuantizationJob",
    "",
    "Made by `deno task crds` from the tables in",
    "[`services/autoscaler/crds`](../../services/autoscaler/crds); do not edit.",
    `All are of \`${apiVersion}\`. \`kubectl explain model.spec.scaling\` says the same in a terminal.`,
    "",
    ...definitions.flatMap(sectionOf),
  ].join("\n");
}

function sectionOf(definition: Definition): string[] {
  const { kind, plural, shortNames, summary, columns } = definition;
  return [
    `## ${kind}`,
    "",
    `${summary} \`kubectl get ${plural}\`, short \`${
      shortNames.join("`, `")
    }\`.`,
    "",
    "| column | shows |",
    "| --- | --- |",
    ...columns.map(({ name, description, wide }) =>
      `| ${name.toUpperCase()} | ${cell(description)}${
        wide ? " (`-o wide`)" : ""
      } |`
    ),
    "",
    ...tableOf("spec", definition.spec),
    ...tableOf("status", definition.status),
  ];
}

function tableOf(root: string, schema: SchemaKind): string[] {
  return [
    `### ${root}`,
    "",
    "| field | holds | default | |",
    "| --- | --- | --- | --- |",
    ...rowsOf(root, schema),
    "",
  ];
}

function rowsOf(path: string, schema: SchemaKind): string[] {
  if (schema.kind === "list") return rowsOf(`${path}[]`, schema.items);
  if (schema.kind !== "object") return [];
  return Object.entries(schema.fields).flatMap(([name, field]) => [
    `| \`${path}.${name}\` | ${cell(holds(field.schema))} | ${
      fallback(field)
    } | ${cell(field.schema.description)} |`,
    ...rowsOf(`${path}.${name}`, field.schema),
  ]);
}

function fallback({ presence, fallback }: Field): string {
  if (presence === "required") return "**required**";
  if (fallback === undefined) return "";
  const isEmpty = JSON.stringify(fallback) === "{}";
  return isEmpty ? "as below" : `\`${JSON.stringify(fallback)}\``;
}

function holds(schema: SchemaKind): string {
  switch (schema.kind) {
    case "text":
      if (schema.choices) return schema.choices.join(", ");
      return schema.format ?? schema.expected ?? "text";
    case "integer":
    case "number": {
      const { min, max } = schema;
      if (min === undefined && max === undefined) return schema.kind;
      return max === undefined ? `≥ ${min}` : `${min} to ${max}`;
    }
    case "boolean":
      return "true, false";
    case "quantity":
      return "quantity";
    case "countOrShare":
      return "count or %";
    case "list":
      return `list${schema.countMax ? `, at most ${schema.countMax}` : ""}`;
    case "map":
      return `map to ${holds(schema.values)}`;
    case "object":
      return "object";
    case "any":
      return schema.type === "array" ? "list" : "object";
  }
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}
