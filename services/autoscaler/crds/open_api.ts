import {
  type ObjectSchema,
  quantityPattern,
  type SchemaKind,
  sharePattern,
} from "./schema.ts";

export type OpenApi = Readonly<Record<string, unknown>>;

/**
 * The structural schema of a table: every node has a type, as Kubernetes 1.16 and
 * later demand, and nothing in it is newer than 1.20 (no validation rules in CEL).
 */
export function toOpenApi(schema: SchemaKind): OpenApi {
  return { description: schema.description, ...shapeOf(schema) };
}

function shapeOf(schema: SchemaKind): OpenApi {
  switch (schema.kind) {
    case "text":
      return given({
        type: "string",
        enum: schema.choices,
        pattern: schema.pattern,
        format: schema.format,
        minLength: schema.lengthMin,
        maxLength: schema.lengthMax,
      });
    case "integer":
      return given({
        type: "integer",
        format: schema.wide ? "int64" : "int32",
        minimum: schema.min,
        maximum: schema.max,
      });
    case "number":
      return given({
        type: "number",
        minimum: schema.min,
        maximum: schema.max,
      });
    case "boolean":
      return { type: "boolean" };
    case "quantity":
      return intOrText(quantityPattern);
    case "countOrShare":
      return intOrText(sharePattern);
    case "list":
      return given({
        type: "array",
        items: toOpenApi(schema.items),
        maxItems: schema.countMax,
        ...listType(schema),
      });
    case "map":
      return {
        type: "object",
        additionalProperties: toOpenApi(schema.values),
      };
    case "object":
      return objectOf(schema);
    case "any":
      return anyOf(schema.type);
  }
}

function objectOf({ fields }: ObjectSchema): OpenApi {
  const names = Object.keys(fields);
  const required = names.filter((name) => fields[name].presence === "required");
  return given({
    type: "object",
    required: required.length > 0 ? required : undefined,
    properties: Object.fromEntries(names.map((name) => {
      const { schema, fallback } = fields[name];
      const rest = fallback === undefined ? {} : { default: fallback };
      return [name, { ...toOpenApi(schema), ...rest }];
    })),
  });
}

function listType(
  { keys, set }: { keys?: readonly string[]; set?: boolean },
): OpenApi {
  if (keys) {
    return {
      "x-kubernetes-list-type": "map",
      "x-kubernetes-list-map-keys": keys,
    };
  }
  return { "x-kubernetes-list-type": set ? "set" : "atomic" };
}

function intOrText(pattern: string): OpenApi {
  return {
    "x-kubernetes-int-or-string": true,
    anyOf: [{ type: "integer" }, { type: "string" }],
    pattern,
  };
}

function anyOf(type: "object" | "array"): OpenApi {
  const open = {
    type: "object",
    "x-kubernetes-preserve-unknown-fields": true,
  };
  return type === "object" ? open : {
    type: "array",
    items: { description: "One entry, as in the Pod API.", ...open },
    "x-kubernetes-list-type": "atomic",
  };
}

function given(fields: Record<string, unknown>): OpenApi {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  );
}
