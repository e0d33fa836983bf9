/** The service as senders of spans, browsers and scripts meet it. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { Client, credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, test } from "vitest";
import { createLocalBus } from "../../lib/bus/mod.ts";
import {
  workerModel,
  workerRecord,
} from "../../lib/bus/testing/worker_records.ts";
import { waitFor } from "../../lib/testing/mod.ts";
import type {
  MeshState,
  ModelList,
  Session,
  StoreState,
  TraceDetail,
  TraceList,
} from "./api_types.ts";
import {
  demoRequest,
  JsonTraceSerializer,
  ProtobufTraceSerializer,
} from "./testing/spans.ts";
import { type TestDashboard, testDashboard } from "./testing/start.ts";

let open: TestDashboard;
beforeAll(async () => {
  open = await testDashboard({
    QUETZAL_CAPTURE_CONTENT: "true",
    QUETZAL_DASHBOARD_OTLP_GRPC_PORT: "0",
    QUETZAL_DASHBOARD_OTLP_PORT: "0",
  });
});
afterAll(() => open[Symbol.asyncDispose]());

const idOf = (spans: ReturnType<typeof demoRequest>) =>
  spans[0].spanContext().traceId;

function stored(dashboard: TestDashboard, traceId: string) {
  return waitFor(async () => {
    const { traces } = await dashboard.json<TraceList>(
      `/api/traces?traceId=${traceId}`,
    );
    return traces[0]?.spanCount === 5 ? traces[0] : undefined;
  });
}

describe("the doors for spans", () => {
  test("the npm exporter's protobuf becomes a trace with all that is in it", async () => {
    const spans = demoRequest({ prompt: "Hi <b>", durationMs: 200 });
    const exporter = new OTLPTraceExporter({ url: `${open.url}/v1/traces` });
    const result = await new Promise<{ code: number }>((done) =>
      exporter.export(spans, done)
    );
    await exporter.shutdown();
    equal(result.code, 0);
    const summary = await stored(open, idOf(spans));
    equal(summary.model, "demo");
    equal(summary.tenant, "acme");
    equal(summary.status, "ok");
    equal(summary.durationMs, 200);
    equal(summary.ttftMs, 50);
    equal(summary.queueMs, 2);
    equal(summary.decodeWorker, "decode-1");
    deepEqual(summary.services, ["decode", "router"]);
    const detail = await open.json<TraceDetail>(`/api/traces/${idOf(spans)}`);
    deepEqual(detail.spans.map(({ name }) => name), [
      "POST /v1/chat/completions",
      "chat demo",
      "route",
      "decode",
      "decode.generate",
    ]);
    deepEqual(
      detail.routes[0].candidates.map(({ workerId, chosen }) => [
        workerId,
        chosen,
      ]),
      [["decode-1", true], ["decode-2", false]],
    );
    deepEqual(detail.tokens?.texts, ["Hel", "lo", " wor", "ld"]);
    deepEqual(detail.tokens?.provenance, [0, 1, 0, 0]);
    deepEqual(detail.tokens?.stepMs, [1, 1.001, 1.002, 1.003]);
    deepEqual(detail.tokens?.step, [0, 1, 2, 3]);
    equal(detail.content?.output, "Hello world");
    deepEqual(detail.content?.input, [{ role: "user", content: "Hi <b>" }]);
    equal(detail.phases.find(({ name }) => name === "prefill")?.durationMs, 10);
  });

  test("JSON, gzip, gRPC and the second HTTP port take the same spans", async () => {
    const json = { "content-type": "application/json" };
    const proto = { "content-type": "application/x-protobuf" };
    const [a, b, c, d] = [1, 2, 3, 4].map(() => demoRequest());
    equal(
      (await open.send(JsonTraceSerializer.serializeRequest(a), json)).status,
      200,
    );
    equal(
      (await open.send(gzipSync(ProtobufTraceSerializer.serializeRequest(b)), {
        ...proto,
        "content-encoding": "gzip",
      })).status,
      200,
    );
    equal(
      (await exportGrpc(ProtobufTraceSerializer.serializeRequest(c))).length,
      0,
    );
    const other = `http://127.0.0.1:${open.dashboard.otlpPort}/v1/traces`;
    equal(
      (await fetch(other, {
        method: "POST",
        headers: proto,
        body: ProtobufTraceSerializer.serializeRequest(d) as BodyInit,
      })).status,
      200,
    );
    const details = [];
    for (const spans of [a, b, c, d]) {
      await stored(open, idOf(spans));
      details.push(
        await open.json<TraceDetail>(`/api/traces/${idOf(spans)}`),
      );
    }
    const shape = ({ spans, tokens }: TraceDetail) =>
      JSON.stringify([
        spans.map((
          s,
        ) => [s.name, s.durationMs, s.kind, s.status, s.attributes]),
        tokens?.count,
      ]).replaceAll(/chatcmpl-\w+/g, "id");
    for (const detail of details) equal(shape(detail), shape(details[0]));
  });

  test("a stored trace leaves as OTLP/JSON and comes back the same", async () => {
    const spans = demoRequest();
    await open.send(ProtobufTraceSerializer.serializeRequest(spans));
    await stored(open, idOf(spans));
    const before = await open.json<TraceDetail>(`/api/traces/${idOf(spans)}`);
    const text = await (await open.get(`/api/traces/${idOf(spans)}/otlp`))
      .text();
    await using second = await testDashboard();
    const json = { "content-type": "application/json" };
    equal((await second.send(text, json)).status, 200);
    await stored(second, idOf(spans));
    const after = await second.json<TraceDetail>(`/api/traces/${idOf(spans)}`);
    deepEqual(
      after.spans.map(({ startAtMs: _, events: __, ...rest }) => rest),
      before.spans.map(({ startAtMs: _, events: __, ...rest }) => rest),
    );
  });

  function exportGrpc(body: Uint8Array): Promise<Buffer> {
    const client = new Client(
      `127.0.0.1:${open.dashboard.otlpGrpcPort}`,
      credentials.createInsecure(),
    );
    const bytes = (value: Buffer) => value;
    return new Promise((resolve, reject) =>
      client.makeUnaryRequest(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        bytes,
        bytes,
        Buffer.from(body),
        (error, answer) => {
          client.close();
          if (error) reject(error);
          else resolve(answer!);
        },
      )
    );
  }

  test("a malformed gRPC export is invalid_argument", async () => {
    const error = await exportGrpc(Buffer.from([0x0a, 0xff, 0xff, 0x01])).catch(
      (reason) => reason,
    );
    equal(error.code, 3);
  });
});

describe("search", () => {
  test("filters and pages through the API", async () => {
    await using own = await testDashboard();
    const requests = Array.from({ length: 25 }, (_, i) =>
      demoRequest({
        model: i % 2 === 0 ? "even" : "odd",
        durationMs: 100 + i,
        error: i === 7 ? "worker died" : undefined,
      }));
    for (const spans of requests) {
      await own.send(ProtobufTraceSerializer.serializeRequest(spans));
    }
    await waitFor(async () =>
      (await own.json<StoreState>("/api/store")).traces === 25
    );
    const seen: string[] = [];
    let cursor = "";
    do {
      const page: TraceList = await own.json(
        `/api/traces?order=slowest&limit=10${cursor && `&cursor=${cursor}`}`,
      );
      seen.push(...page.traces.map(({ traceId }) => traceId));
      cursor = page.nextCursor ?? "";
    } while (cursor);
    deepEqual(seen, requests.toReversed().map(idOf));
    const errors = await own.json<TraceList>("/api/traces?status=error");
    deepEqual(errors.traces.map((t) => [t.traceId, t.error]), [
      [idOf(requests[7]), "worker died"],
    ]);
    const odd = await own.json<TraceList>(
      "/api/traces?model=odd&durationMsMin=120",
    );
    equal(odd.traces.length, 2);
    const { facets, stats } = {
      facets: await own.json<{ models: unknown }>("/api/facets"),
      stats: await own.json<{ count: number; durationMs: { max: number } }>(
        "/api/traces/stats?model=even",
      ),
    };
    deepEqual(facets.models, [
      { value: "even", count: 13 },
      { value: "odd", count: 12 },
    ]);
    equal(stats.count, 13);
    equal(stats.durationMs.max, 124);
  });

  const refused = [
    "limit=0",
    "limit=1.5",
    "limit=x",
    "modle=x",
    "status=bad",
    "order=random",
    "traceId=xyz",
    "cursor=abc",
    "durationMsMin=-1",
    "durationMsMin=1e9999",
    "tenant=a&tenant=b",
    `tenant=${"x".repeat(600)}`,
    "fromMs=NaN",
  ];
  for (const query of refused) {
    test(`?${query.slice(0, 40)} is refused with its name`, async () => {
      const response = await open.get(`/api/traces?${query}`);
      equal(response.status, 400);
      const { error } = await response.json();
      equal(error.reason, "invalid_query");
      equal(error.field, query.split("=")[0]);
    });
  }
});

test("answers forbid scripts, frames and sniffing, and know no foreign host", async () => {
  for (const path of ["/", "/api/session", "/api/nothing", "/health"]) {
    const { headers } = await open.get(path);
    match(headers.get("content-security-policy")!, /default-src 'none'/);
    match(headers.get("content-security-policy")!, /frame-ancestors 'none'/);
    equal(headers.get("x-content-type-options"), "nosniff");
  }
  const post = (headers: Record<string, string>) =>
    open.get("/api/session", { method: "POST", headers, body: "{}" });
  equal((await post({ "content-type": "text/plain" })).status, 415);
  equal(
    (await post({
      "content-type": "application/json",
      origin: "https://evil.example",
    })).status,
    403,
  );
});

test("hostile strings come out of the API as they went in, as JSON", async () => {
  const model =
    `</script><script>alert(1)</script>\u202e\u0000"'\`\ud83d\ude00`;
  const spans = demoRequest({ model, tenant: "__proto__" });
  await open.send(ProtobufTraceSerializer.serializeRequest(spans));
  const summary = await stored(open, idOf(spans));
  equal(summary.model, model);
  equal(summary.tenant, "__proto__");
  const response = await open.get(`/api/traces/${idOf(spans)}`);
  match(response.headers.get("content-type")!, /^application\/json/);
  const found = await open.json<TraceList>(
    `/api/traces?model=${encodeURIComponent(model)}`,
  );
  equal(found.traces.length, 1);
});

test("content is neither stored nor shown unless captured", async () => {
  await using own = await testDashboard();
  const spans = demoRequest({ prompt: "a secret", texts: ["also", "secret"] });
  await own.send(ProtobufTraceSerializer.serializeRequest(spans));
  await stored(own, idOf(spans));
  const paths = ["", "/otlp"].map((end) => `/api/traces/${idOf(spans)}${end}`);
  for (const path of [...paths, "/api/traces"]) {
    ok(!(await (await own.get(path)).text()).includes("secret"), path);
  }
  const detail = await own.json<TraceDetail>(paths[0]);
  equal(detail.content, null);
  equal(detail.tokens?.texts, null);
  equal(detail.tokens?.ids, null);
  equal(detail.tokens?.count, 2);
});

describe("login", () => {
  const token = "a token of some length";
  let own: TestDashboard;
  beforeAll(async () => {
    own = await testDashboard({ QUETZAL_DASHBOARD_TOKEN: token });
  });
  afterAll(() => own[Symbol.asyncDispose]());
  const login = (body: unknown) =>
    own.get("/api/session", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });

  test("nothing but the session and the page is shown without", async () => {
    for (
      const path of [
        "/api/traces",
        "/api/traces/stats",
        "/api/mesh",
        "/api/models",
        "/api/events",
        "/api/store",
        "/api/facets",
        "/api/speculation",
        `/api/traces/${"a".repeat(32)}`,
        "/api/playground/v1/models",
        "/metrics",
      ]
    ) equal((await own.get(path)).status, 401, path);
    const session = await own.json<Session>("/api/session");
    deepEqual([session.authRequired, session.authenticated], [true, false]);
  });

  test("a bearer or the cookie of a login lets in, anything else does not", async () => {
    const bearer = (value: string) =>
      own.get("/api/traces", { headers: { authorization: value } });
    equal((await bearer(`Bearer ${token}`)).status, 200);
    equal((await bearer(`Bearer ${token}x`)).status, 401);
    equal((await login({ token: "wrong" })).status, 401);
    equal((await login({ token: 7 })).status, 400);
    const answer = await login({ token });
    equal(answer.status, 200);
    const setCookie = answer.headers.get("set-cookie")!;
    match(setCookie, /HttpOnly; SameSite=Strict/);
    const cookie = setCookie.split(";")[0];
    const get = (value: string) =>
      own.get("/api/traces", { headers: { cookie: value } });
    equal((await get(cookie)).status, 200);
    const [name, value] = cookie.split("=");
    const [until, mac] = value.split(".");
    equal((await get(`${name}=${Number(until) + 1}.${mac}`)).status, 401);
    equal((await get(`${name}=${until}.`)).status, 401);
  });

  test("guessing is slowed down", async () => {
    let status = 0;
    for (let i = 0; i < 40 && status !== 429; i++) {
      status = (await login({ token: `guess ${i}` })).status;
    }
    equal(status, 429);
  });
});

test("what was received survives the process, also what was not complete", async () => {
  await using first = await testDashboard({}, { settleMs: 60_000 });
  const spans = demoRequest();
  const traceId = idOf(spans);
  await first.send(ProtobufTraceSerializer.serializeRequest(spans));
  const shown = await first.json<TraceList>("/api/traces");
  equal(shown.traces[0].traceId, traceId, "it is listed at once");
  equal((await first.json<StoreState>("/api/store")).traces, 0);
  const { tempDir } = await import("../../lib/testing/mod.ts");
  await using data = await tempDir("restart");
  const env = { QUETZAL_DASHBOARD_DATA: data.path };
  {
    await using writer = await testDashboard(env, { settleMs: 60_000 });
    await writer.send(ProtobufTraceSerializer.serializeRequest(spans));
  }
  await using reader = await testDashboard(env);
  const { traces } = await reader.json<TraceList>("/api/traces");
  deepEqual(traces.map((t) => [t.traceId, t.spanCount]), [[traceId, 5]]);
});

describe("server-sent events", () => {
  test("a page hears of traces and of the mesh as they change", async () => {
    await using own = await testDashboard();
    await using bus = createLocalBus();
    own.dashboard.join(bus);
    const stop = new AbortController();
    const response = await own.get("/api/events", { signal: stop.signal });
    match(response.headers.get("content-type")!, /^text\/event-stream/);
    const events = readEvents(response);
    equal((await next(events, "hello")).authRequired, false);
    await next(events, "mesh");
    const spans = demoRequest();
    await own.send(ProtobufTraceSerializer.serializeRequest(spans));
    const [summary] = await next(events, "traces");
    equal(summary.traceId, idOf(spans));
    await bus.putWorker(twoTokensPerS("w-1"));
    const seen = async (state: string) => {
      let mesh: MeshState;
      do mesh = await next(events, "mesh"); while (
        mesh.workers[0]?.state !== state
      );
      return mesh;
    };
    const mesh = await seen("ready");
    equal(mesh.workers[0].models[0].model, "m");
    await bus.removeWorker("decode", "w-1");
    const gone = await seen("gone");
    deepEqual(gone.log.map(({ kind }) => kind).slice(-3), [
      "worker_joined",
      "model_loaded",
      "worker_left",
    ]);
    const { models } = await own.json<ModelList>("/api/models");
    deepEqual(models.map((m) => [m.model, m.state]), [["m", "asleep"]]);
    stop.abort();
  });

  test("one trace is shown as it builds up, also before its first span", async () => {
    const spans = demoRequest();
    const [worker, router] = [spans.slice(0, 1), spans.slice(1)];
    const stop = new AbortController();
    const response = await open.get(`/api/traces/${idOf(spans)}/events`, {
      signal: stop.signal,
    });
    const events = readEvents(response);
    await open.send(ProtobufTraceSerializer.serializeRequest(worker));
    equal((await next(events, "trace")).summary.spanCount, 1);
    await open.send(ProtobufTraceSerializer.serializeRequest(router));
    let detail: TraceDetail;
    do detail = await next(events, "trace"); while (
      detail.summary.spanCount < 5
    );
    equal(detail.summary.open, false);
    stop.abort();
  });

  test("an unknown kind of event is refused", async () => {
    equal((await open.get("/api/events?kind=weather")).status, 400);
  });
});

test("the OpenAPI document knows every path, and every reference leads somewhere", async () => {
  const document = await open.json<{
    paths: Record<string, unknown>;
    components: { schemas: Record<string, { required?: string[] }> };
  }>("/api/openapi.json");
  const text = JSON.stringify(document);
  for (const [, name] of text.matchAll(/#\/components\/schemas\/(\w+)/g)) {
    ok(name in document.components.schemas, name);
  }
  const spans = demoRequest();
  await open.send(ProtobufTraceSerializer.serializeRequest(spans));
  await stored(open, idOf(spans));
  const answers: [path: string, schema: string][] = [
    ["/api/session", "Session"],
    ["/api/traces", "TraceList"],
    ["/api/traces/stats", "TraceStats"],
    [`/api/traces/${idOf(spans)}`, "TraceDetail"],
    ["/api/facets", "Facets"],
    ["/api/mesh", "MeshState"],
    ["/api/models", "ModelList"],
    ["/api/speculation", "SpeculationStats"],
    ["/api/store", "StoreState"],
  ];
  for (const [path, schema] of answers) {
    const body = await open.json<Record<string, unknown>>(path);
    const { required = [] } = document.components.schemas[schema];
    for (const key of required) ok(key in body, `${path} lacks ${key}`);
    ok(
      path.replace(idOf(spans), "{traceId}") in document.paths,
      `${path} is not documented`,
    );
  }
});

// --- reading server-sent events ---

type Events = AsyncGenerator<{ event: string; data: unknown }>;

async function* readEvents(response: Response): Events {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body!) {
    text += decoder.decode(chunk, { stream: true });
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const field = (name: string) =>
        lines.find((line) => line.startsWith(`${name}: `))?.slice(
          name.length + 2,
        );
      const event = field("event");
      if (event) yield { event, data: JSON.parse(field("data")!) };
    }
  }
}

// deno-lint-ignore no-explicit-any
async function next(events: Events, kind: string): Promise<any> {
  for (;;) {
    const { value, done } = await events.next();
    if (done) throw new Error(`The stream ended without "${kind}"`);
    if (value.event === kind) return value.data;
  }
}

function twoTokensPerS(workerId: string) {
  return workerRecord(workerId, {
    address: "127.0.0.1:1",
    startedAtMs: 1,
    models: [workerModel("m", {
      contextLength: 64,
      blocksTotal: 4,
      blocksFree: 3,
      running: 1,
      weightBytes: 0,
      prefillTokensPerS: 1,
      decodeTokensPerS: 2,
    })],
  });
}
