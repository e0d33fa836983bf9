/** Serves the built page and answers made up by a test, over real HTTP. */
import { readFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import type {
  MeshState,
  ModelList,
  Session,
  SpeculationStats,
  TraceDetail,
  TraceSummary,
} from "../../../services/dashboard/api_types.ts";
import { webFolder } from "../../../services/dashboard/web/build.ts";
import { makeSession, makeStats } from "./fixtures.ts";

export interface FakeState {
  session: Session;
  traces: readonly TraceSummary[];
  details: ReadonlyMap<string, TraceDetail>;
  mesh: MeshState;
  models: ModelList;
  speculation: SpeculationStats;
  /** By path: what to answer instead of data. */
  failures: Map<string, { status: number; message: string }>;
}

export interface FakeApi extends AsyncDisposable {
  readonly url: string;
  readonly state: FakeState;
  /** Paths with queries that were asked for. */
  readonly asked: string[];
}

const empty = (): FakeState => ({
  session: makeSession(),
  traces: [],
  details: new Map(),
  mesh: {
    atMs: Date.now(),
    natsConnected: true,
    routers: [],
    workers: [],
    edges: [],
    log: [],
  },
  models: { atMs: Date.now(), models: [] },
  speculation: { models: [] },
  failures: new Map(),
});

export async function startFakeApi(
  state: Partial<FakeState> = {},
): Promise<FakeApi> {
  const now: FakeState = { ...empty(), ...state };
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url!, "http://fake");
    if (!url.pathname.startsWith("/api/")) return page(url.pathname, response);
    asked.push(request.url!);
    const failure = now.failures.get(url.pathname);
    if (failure) {
      const error = { message: failure.message, reason: "made_up" };
      return json(response, { error }, failure.status);
    }
    if (url.pathname.endsWith("/events")) return events(url, now, response);
    const body = answer(url, now);
    if (body !== undefined) return json(response, body);
    const message = `Cannot find the trace ${url.pathname.slice(12, 44)}`;
    json(response, { error: { message, reason: "not_found" } }, 404);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    state: now,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

function answer(url: URL, state: FakeState): unknown {
  switch (url.pathname) {
    case "/api/session":
      return state.session;
    case "/api/traces": {
      const model = url.searchParams.get("model");
      return {
        traces: state.traces.filter((trace) => !model || trace.model === model),
      };
    }
    case "/api/traces/stats":
      return makeStats(state.traces);
    case "/api/facets":
      return facets(state.traces);
    case "/api/mesh":
      return state.mesh;
    case "/api/models":
      return state.models;
    case "/api/speculation":
      return state.speculation;
  }
  const trace = /^\/api\/traces\/([^/]+)$/.exec(url.pathname);
  return trace ? state.details.get(decodeURIComponent(trace[1])) : undefined;
}

function facets(traces: readonly TraceSummary[]) {
  const count = (values: (string | null)[]) =>
    [...new Set(values)].flatMap((value) =>
      value === null
        ? []
        : [{ value, count: values.filter((one) => one === value).length }]
    );
  return {
    models: count(traces.map((trace) => trace.model)),
    tenants: count(traces.map((trace) => trace.tenant)),
    workers: count(traces.map((trace) => trace.decodeWorker)),
  };
}

function events(url: URL, state: FakeState, response: ServerResponse): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (kind: string, data: unknown) =>
    response.write(`event: ${kind}\ndata: ${JSON.stringify(data)}\n\n`);
  if (url.pathname !== "/api/events") return void send("ping", { atMs: 0 });
  send("hello", state.session);
  send("mesh", state.mesh);
  send("models", state.models);
}

function json(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

/** As the service does: files, and the page for every address without an extension. */
function page(path: string, response: ServerResponse): void {
  const isFile = path.startsWith("/assets/") || path === "/icon.svg";
  const name = isFile ? path : "index.html";
  const types: Record<string, string> = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
  };
  try {
    const body = readFileSync(join(webFolder, name));
    response.writeHead(200, {
      "content-type": types[extname(name)],
      "content-security-policy":
        "default-src 'self'; require-trusted-types-for 'script'",
    }).end(body);
  } catch {
    // No such file.
    response.writeHead(404).end();
  }
}
