import { traceOrders, traceParameters, traceStatuses } from "./read_query.ts";

type Schema = Readonly<Record<string, unknown>>;

/** The API in OpenAPI 3.1; `api_types.ts` holds every field with its meaning. */
export function openApi(version: string): unknown {
  return {
    openapi: "3.1.0",
    info: {
      title: "Quetzal dashboard",
      version,
      description:
        "Traces, live mesh state and their events. Times are milliseconds; a number nobody has measured is null. Errors have the body { error: { message, reason, field? } }.",
    },
    security: [{ bearer: [] }, { cookie: [] }],
    paths: paths(),
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        cookie: { type: "apiKey", in: "cookie", name: "quetzal_dashboard" },
      },
      schemas: schemas(),
    },
  };
}

function paths(): Schema {
  const trace = { ...parameter("traceId", "path", hexId), required: true };
  const open = { security: [] };
  return {
    "/api/session": {
      get: {
        ...answers("Who is logged in, and what there is", "Session"),
        ...open,
      },
      post: {
        ...answers("Log in with the token; sets a cookie", "Session"),
        ...open,
        requestBody: {
          required: true,
          content: json(object({ token: text }, ["token"])),
        },
      },
      delete: { ...answers("Log out", "Session"), ...open },
    },
    "/api/traces": {
      get: {
        ...answers("Search; newest first", "TraceList"),
        parameters: searchParameters(),
      },
    },
    "/api/traces/stats": {
      get: {
        ...answers("Counts and percentiles of a search", "TraceStats"),
        parameters: searchParameters(),
      },
    },
    "/api/traces/{traceId}": {
      get: { ...answers("One trace", "TraceDetail"), parameters: [trace] },
    },
    "/api/traces/{traceId}/otlp": {
      get: {
        ...answers("One trace as OTLP/JSON, for other tools", "Otlp"),
        parameters: [trace],
      },
    },
    "/api/traces/{traceId}/events": {
      get: {
        ...streams("One trace as it builds up: trace, ping"),
        parameters: [trace],
      },
    },
    "/api/facets": { get: answers("Values to filter by", "Facets") },
    "/api/mesh": { get: answers("What is alive now", "MeshState") },
    "/api/models": { get: answers("Every model's state", "ModelList") },
    "/api/speculation": {
      get: {
        ...answers("How drafts did", "SpeculationStats"),
        parameters: [
          parameter("model", "query", text),
          parameter("fromMs", "query", number),
          parameter("toMs", "query", number),
        ],
      },
    },
    "/api/store": { get: answers("The trace store", "StoreState") },
    "/api/events": {
      get: {
        ...streams("hello, traces, mesh, models, ping"),
        parameters: [parameter("kind", "query", {
          type: "array",
          items: { enum: ["hello", "traces", "mesh", "models", "ping"] },
        })],
      },
    },
    "/api/playground/v1/models": { get: router("The router's models") },
    "/api/playground/v1/chat/completions": { post: router("A chat") },
    "/api/playground/v1/completions": { post: router("A completion") },
    "/api/playground/tokenize": { post: router("Tokens of a text") },
    "/v1/traces": {
      post: {
        summary: "OTLP: ExportTraceServiceRequest, plain or gzip",
        security: [{}, { bearer: [] }],
        requestBody: {
          required: true,
          content: {
            "application/x-protobuf": { schema: { type: "string" } },
            "application/json": { schema: { type: "object" } },
          },
        },
        responses: { 200: { description: "Taken" }, ...failures },
      },
    },
  };
}

const text = { type: "string" };
const number = { type: "number", minimum: 0 };
const orNull = (schema: Schema) => ({ anyOf: [schema, { type: "null" }] });
const list = (items: Schema) => ({ type: "array", items });
const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const hexId = { type: "string", pattern: "^[0-9a-f]{32}$" };

function object(
  properties: Schema,
  required: readonly string[] = Object.keys(properties),
): Schema {
  return { type: "object", properties, required };
}

function json(schema: Schema): Schema {
  return { "application/json": { schema } };
}

const failures = Object.fromEntries(
  ([
    [400, "A parameter or the body is at fault"],
    [401, "Log in first"],
    [404, "It is not here"],
    [503, "Try again later"],
  ] as const).map(([status, description]) => [
    status,
    { description, content: json(ref("ApiError")) },
  ]),
);

function answers(summary: string, schema: string): Schema {
  return {
    summary,
    responses: {
      200: { description: schema, content: json(ref(schema)) },
      ...failures,
    },
  };
}

function streams(summary: string): Schema {
  return {
    summary: `Server-sent events: ${summary}`,
    responses: {
      200: {
        description: "Events",
        content: { "text/event-stream": { schema: text } },
      },
      ...failures,
    },
  };
}

function router(summary: string): Schema {
  return {
    summary: `${summary}, as the router answers`,
    responses: {
      200: { description: "The router's answer", content: json({}) },
      502: { description: "The router does not answer" },
      ...failures,
    },
  };
}

function parameter(
  name: string,
  place: "query" | "path",
  schema: Schema,
): Schema {
  return { name, in: place, schema };
}

const special: Readonly<Record<string, Schema>> = {
  model: list(text),
  tenant: text,
  requestId: text,
  worker: text,
  cursor: text,
  traceId: { type: "string", pattern: "^[0-9a-fA-F]{4,32}$" },
  status: { enum: traceStatuses },
  order: { enum: traceOrders, default: "newest" },
  limit: { type: "integer", minimum: 1, maximum: 200, default: 50 },
};

function searchParameters(): Schema[] {
  return traceParameters.map((name) =>
    parameter(name, "query", special[name] ?? number)
  );
}

/** The parts that a caller of other languages needs; nested details are in api_types.ts. */
function schemas(): Schema {
  const nullable = orNull(number);
  const nullableText = orNull(text);
  const percentiles = object(
    Object.fromEntries(
      ["p50", "p90", "p95", "p99", "max"].map((name) => [name, nullable]),
    ),
  );
  const any = { type: "object" };
  return {
    ApiError: object({
      error: object({ message: text, reason: text, field: text }, [
        "message",
        "reason",
      ]),
    }),
    Session: object({
      authRequired: { type: "boolean" },
      authenticated: { type: "boolean" },
      captureContent: { type: "boolean" },
      playground: { type: "boolean" },
      version: text,
      nowMs: number,
    }),
    TraceSummary: object({
      traceId: hexId,
      requestId: nullableText,
      name: text,
      status: { enum: traceStatuses },
      error: nullableText,
      errorType: nullableText,
      model: nullableText,
      tenant: nullableText,
      operation: nullableText,
      startAtMs: number,
      durationMs: number,
      queueMs: nullable,
      ttftMs: nullable,
      interTokenMs: nullable,
      promptTokens: nullable,
      cachedTokens: nullable,
      outputTokens: nullable,
      finishReason: nullableText,
      attempts: number,
      decodeWorker: nullableText,
      prefillWorker: nullableText,
      spanCount: number,
      services: list(text),
      open: { type: "boolean" },
    }),
    TraceList: object(
      { traces: list(ref("TraceSummary")), nextCursor: text },
      ["traces"],
    ),
    TraceStats: object({
      count: number,
      errors: number,
      cancelled: number,
      promptTokens: number,
      outputTokens: number,
      durationMs: percentiles,
      ttftMs: percentiles,
      interTokenMs: percentiles,
      queueMs: percentiles,
      slices: list(any),
      sampled: number,
    }),
    TraceDetail: object({
      summary: ref("TraceSummary"),
      spans: list(any),
      phases: list(any),
      routes: list(any),
      prefills: list(any),
      transfers: list(any),
      decodes: list(any),
      tokens: orNull(any),
      content: orNull(any),
      spansLeftOut: number,
    }),
    Otlp: object({ resourceSpans: list(any) }),
    Facets: object({
      models: list(any),
      tenants: list(any),
      workers: list(any),
    }),
    MeshState: object({
      atMs: number,
      natsConnected: { type: "boolean" },
      routers: list(any),
      workers: list(any),
      edges: list(any),
      log: list(any),
    }),
    ModelList: object({ atMs: number, models: list(any) }),
    SpeculationStats: object({ models: list(any) }),
    StoreState: object({
      traces: number,
      spans: number,
      bytes: number,
      bytesMax: number,
      oldestAtMs: nullable,
      retentionMs: number,
      received: any,
    }),
  };
}
