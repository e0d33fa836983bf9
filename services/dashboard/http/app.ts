import { type Context, Hono } from "hono";
import type { Session } from "../api_types.ts";
import type { Logger } from "../../../lib/telemetry/mod.ts";
import type { LiveMesh } from "../mesh/live_mesh.ts";
import { encodeJson } from "../otlp/mod.ts";
import { QueryError } from "../store/mod.ts";
import { stripContent } from "../trace/content.ts";
import type { TraceReader } from "../trace_reader.ts";
import { HttpProblem } from "./api_error.ts";
import { eventKinds, type LiveEvents } from "./live_events.ts";
import type { Login } from "./login.ts";
import { openApi } from "./openapi.ts";
import { type OtlpDoorOptions, takeSpans } from "./otlp_door.ts";
import { askRouter } from "./playground.ts";
import {
  readKinds,
  readSpeculationQuery,
  readTraceQuery,
} from "./read_query.ts";
import { sameOrigin, secured } from "./security.ts";
import type { StaticFiles } from "./static_files.ts";
import type { TraceEvents } from "./trace_events.ts";

export interface AppParts {
  readonly traces: TraceReader;
  readonly mesh: LiveMesh;
  readonly live: LiveEvents;
  readonly traceEvents: TraceEvents;
  readonly login: Login;
  readonly files: StaticFiles;
  readonly otlp: OtlpDoorOptions;
  readonly routerUrl: string | undefined;
  readonly captureContent: boolean;
  /** Names that requests may be for; any unless set. */
  readonly hosts: ReadonlySet<string> | undefined;
  readonly metrics: () => Promise<{ contentType: string; text: string }>;
  readonly version: string;
  readonly logger: Logger;
}

/** Bodies of the API are small; spans have a bound of their own. */
const bodyBytesMax = 1 << 20;

/** Everything the dashboard answers over HTTP. */
export function createApp(parts: AppParts): Hono {
  const app = new Hono();
  app.use(secured);
  app.onError((reason) => failed(reason, parts));
  app.get("/health", (c) => c.json({ status: "ok" }));
  // Senders of spans have no cookie and no page: their door comes before the others' rules.
  app.post("/v1/traces", (c) => takeSpans(c.req.raw, parts.otlp));
  app.use(sameOrigin(parts.hosts));
  app.route("/api", api(parts));
  app.get("/metrics", async (c) => {
    requireLogin(c, parts);
    const { contentType, text } = await parts.metrics();
    return c.body(text, 200, { "content-type": contentType });
  });
  app.get(
    "*",
    (c) => parts.files.answer(c.req.path, (name) => c.req.header(name)),
  );
  return app;
}

/** OTLP alone, for a port of its own. */
export function createOtlpApp(parts: Pick<AppParts, "otlp" | "logger">): Hono {
  const app = new Hono();
  app.onError((reason) => failed(reason, parts));
  app.get("/health", (c) => c.json({ status: "ok" }));
  app.post("/v1/traces", (c) => takeSpans(c.req.raw, parts.otlp));
  return app;
}

function api(parts: AppParts): Hono {
  const { traces, mesh, live, traceEvents, login } = parts;
  const app = new Hono();
  app.use(async (c, next) => {
    await next();
    if (!c.res.headers.has("cache-control")) {
      c.res.headers.set("cache-control", "no-store");
    }
  });

  // Open to everybody: whether and how to log in, and what there is.
  app.get("/openapi.json", (c) => c.json(openApi(parts.version)));
  app.get("/session", (c) => c.json(session(c, parts)));
  app.post("/session", async (c) => {
    const { token } = await readJson(c);
    if (typeof token !== "string") {
      throw new HttpProblem(400, {
        message: "Cannot log in: needs a token, found none",
        reason: "invalid_body",
        field: "token",
      });
    }
    const cookie = login.logIn(token, isHttps(c));
    c.header("set-cookie", cookie);
    return c.json({ ...session(c, parts), authenticated: true });
  });
  app.delete("/session", (c) => {
    c.header("set-cookie", login.logOut(isHttps(c)));
    return c.json({ ...session(c, parts), authenticated: !login.required });
  });

  app.use(async (c, next) => {
    requireLogin(c, parts);
    await next();
  });
  app.get(
    "/traces",
    (c) => c.json(traces.list(readTraceQuery(c.req.queries()))),
  );
  app.get(
    "/traces/stats",
    (c) => c.json(traces.stats(readTraceQuery(c.req.queries()))),
  );
  app.get("/traces/:traceId", (c) => c.json(detail(c, parts)));
  app.get("/traces/:traceId/otlp", (c) => c.json(otlp(c, parts) as object));
  app.get("/traces/:traceId/events", (c) => {
    const traceId = traceIdOf(c);
    return opened(traceEvents.connect(traceId, () => traces.detail(traceId)));
  });
  app.get("/facets", (c) => c.json(traces.facets()));
  app.get("/mesh", (c) => c.json(mesh.state()));
  app.get("/models", (c) => c.json(mesh.models()));
  app.get(
    "/speculation",
    (c) => c.json(traces.speculation(readSpeculationQuery(c.req.queries()))),
  );
  app.get("/store", (c) => c.json(traces.storeState()));
  app.get("/events", (c) =>
    opened(live.connect(
      readKinds(c.req.queries(), eventKinds),
      session(c, parts),
    )));
  app.all("/playground/*", (c) => {
    requireSmall(c);
    const path = c.req.path.replace(/^\/api\/playground/, "");
    return askRouter(c.req.raw, { path, routerUrl: parts.routerUrl });
  });
  app.all("*", (c) => {
    throw notFound(c.req.path);
  });
  return app;
}

function session(c: Context, parts: AppParts): Session {
  const { login, captureContent, routerUrl, version } = parts;
  return {
    authRequired: login.required,
    authenticated: login.isLoggedIn((name) => c.req.header(name)),
    captureContent,
    playground: routerUrl !== undefined,
    version,
    nowMs: Date.now(),
  };
}

function requireLogin(c: Context, { login }: AppParts): void {
  if (login.isLoggedIn((name) => c.req.header(name))) return;
  throw new HttpProblem(401, {
    message: "Cannot answer: log in with the dashboard's token first",
    reason: "unauthorized",
    headers: { "www-authenticate": "Bearer" },
  });
}

function detail(c: Context, { traces }: AppParts) {
  const found = traces.detail(traceIdOf(c));
  if (found === undefined) throw unknownTrace(c);
  return found;
}

function otlp(c: Context, { traces, captureContent }: AppParts): unknown {
  const traceId = traceIdOf(c);
  const found = traces.trace(traceId);
  if (found === undefined) throw unknownTrace(c);
  const spans = captureContent ? found.spans : found.spans.map(stripContent);
  return encodeJson(traceId, spans);
}

function traceIdOf(c: Context): string {
  const traceId = (c.req.param("traceId") ?? "").toLowerCase();
  if (/^[0-9a-f]{32}$/.test(traceId)) return traceId;
  throw new HttpProblem(400, {
    message: "Cannot show the trace: needs an id of 32 hex digits",
    reason: "invalid_query",
    field: "traceId",
  });
}

function unknownTrace(c: Context): HttpProblem {
  return new HttpProblem(404, {
    message: `Cannot show the trace ${c.req.param("traceId")}: it is not ` +
      "here; it may still be on its way, was not sampled, or is too old",
    reason: "not_found",
  });
}

function notFound(path: string): HttpProblem {
  return new HttpProblem(404, {
    message: `Cannot find ${path.slice(0, 200)}: see /api/openapi.json`,
    reason: "not_found",
  });
}

/** A stream, or the answer that there are too many. */
function opened(response: Response | undefined): Response {
  if (response !== undefined) return response;
  throw new HttpProblem(503, {
    message: "Cannot follow: too many pages are open",
    reason: "too_many_streams",
    headers: { "retry-after": "10" },
  });
}

function requireSmall(c: Context): void {
  const bytes = Number(c.req.header("content-length") ?? 0);
  if (bytes <= bodyBytesMax) return;
  throw new HttpProblem(413, {
    message: `Cannot take the request: needs at most ${bodyBytesMax} bytes`,
    reason: "too_large",
  });
}

async function readJson(c: Context): Promise<Record<string, unknown>> {
  requireSmall(c);
  try {
    const body = await c.req.json();
    if (typeof body === "object" && body !== null) return body;
  } catch {
    // Told below, together with what is JSON but no object.
  }
  throw new HttpProblem(400, {
    message: "Cannot read the request: needs a JSON object",
    reason: "invalid_body",
  });
}

/** Behind a proxy that ends TLS too. */
function isHttps(c: Context): boolean {
  return c.req.header("x-forwarded-proto") === "https" ||
    c.req.url.startsWith("https:");
}

function failed(
  reason: unknown,
  { logger }: Pick<AppParts, "logger">,
): Response {
  if (reason instanceof HttpProblem) {
    const { status, body, headers } = reason;
    return Response.json(body, { status, headers });
  }
  if (reason instanceof QueryError) {
    const { message, field } = reason;
    return Response.json({
      error: { message, reason: "invalid_query", field },
    }, { status: 400 });
  }
  logger.error({ err: reason }, "A request failed");
  return Response.json({
    error: {
      message: "Cannot answer: the dashboard failed, see its log",
      reason: "internal",
    },
  }, { status: 500 });
}
