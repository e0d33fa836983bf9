import { type OpenApi, toOpenApi } from "./open_api.ts";
import type { SchemaKind } from "./schema.ts";

export const group = "quetzal.dev";
export const version = "v1alpha1";
export const apiVersion = `${group}/${version}`;

export interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  readonly jsonPath: string;
  readonly description: string;
  /** Shown with `-o wide` only. */
  readonly wide?: boolean;
}

/** One of our resources: its names, its tables, what `kubectl get` shows. */
export interface Definition {
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly summary: string;
  readonly spec: SchemaKind;
  readonly status: SchemaKind;
  /** Paths of the scale subresource. */
  readonly scale?: OpenApi;
  readonly columns: readonly Column[];
}

/** The CustomResourceDefinition, for Kubernetes 1.16 and later. */
export function toCrd(definition: Definition): OpenApi {
  const { kind, plural, singular, shortNames } = definition;
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: {
      name: `${plural}.${group}`,
      labels: { "app.kubernetes.io/part-of": "quetzal" },
    },
    spec: {
      group,
      scope: "Namespaced",
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular,
        shortNames,
        categories: ["quetzal"],
      },
      versions: [{
        name: version,
        served: true,
        storage: true,
        subresources: {
          status: {},
          ...definition.scale && { scale: definition.scale },
        },
        additionalPrinterColumns: [
          ...definition.columns.map(({ wide, ...column }) => ({
            ...column,
            ...wide && { priority: 1 },
          })),
          {
            name: "Age",
            type: "date",
            jsonPath: ".metadata.creationTimestamp",
          },
        ],
        schema: { openAPIV3Schema: rootOf(definition) },
      }],
    },
  };
}

function rootOf({ summary, spec, status }: Definition): OpenApi {
  return {
    description: summary,
    type: "object",
    required: ["spec"],
    properties: {
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: { type: "object" },
      spec: toOpenApi(spec),
      status: toOpenApi(status),
    },
  };
}
