/** Whoever reaches the port may send anything. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { request } from "node:http";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, test } from "vitest";
import { decodeJson, decodeProtobuf, limits, OtlpError } from "./otlp/mod.ts";
import { describe as describeTrace } from "./trace/describe.ts";
import {
  demoRequest,
  JsonTraceSerializer,
  ProtobufTraceSerializer,
} from "./testing/spans.ts";
import { type TestDashboard, testDashboard } from "./testing/start.ts";

let open: TestDashboard;
beforeAll(async () => {
  open = await testDashboard({
    QUETZAL_DASHBOARD_OTLP_TOKEN: "sender's token",
  });
});
afterAll(() => open[Symbol.asyncDispose]());

const now = Date.now();
const authorization = "Bearer sender's token";
const proto = { authorization, "content-type": "application/x-protobuf" };
const json = { authorization, "content-type": "application/json" };
const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";

/** One span whose fields are as given, in OTLP/JSON. */
const oneSpan = (fields: Record<string, unknown>, resource: unknown = {}) =>
  JSON.stringify({
    resourceSpans: [{
      resource,
      scopeSpans: [{
        spans: [{
          traceId,
          spanId: "00f067aa0ba902b7",
          startTimeUnixNano: `${BigInt(now) * 1_000_000n}`,
          endTimeUnixNano: `${BigInt(now + 5) * 1_000_000n}`,
          ...fields,
        }],
      }],
    }],
  });
const bytesOf = (text: string) => new TextEncoder().encode(text);
const decodeOne = (fields: Record<string, unknown>) =>
  decodeJson(bytesOf(oneSpan(fields)), now).spans[0];

/** A length-delimited protobuf field. */
function field(number: number, content: Uint8Array | string): Uint8Array {
  const data = Buffer.from(content as string);
  const length: number[] = [];
  let rest = data.length;
  for (; rest >= 128; rest = rest >>> 7) length.push((rest & 127) | 128);
  length.push(rest);
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), data]);
}

function protoSpan(...parts: Uint8Array[]): Uint8Array {
  const time = Buffer.alloc(9);
  time[0] = 7 * 8 + 1;
  time.writeBigUInt64LE(BigInt(now) * 1_000_000n, 1);
  const span = Buffer.concat([
    field(1, Buffer.from(traceId, "hex")),
    field(2, Buffer.from("00f067aa0ba902b7", "hex")),
    time,
    ...parts,
  ]);
  return field(1, field(2, field(2, span)));
}

describe("at the door", () => {
  const cases: [string, number, Record<string, string>, BodyInit][] = [
    ["garbage as protobuf", 400, proto, "\xff\xfe\xfd garbage"],
    ["garbage as JSON", 400, json, "{"],
    ["a JSON list", 400, json, "[]"],
    ["JSON null", 400, json, "null"],
    ["an unknown type", 415, { ...proto, "content-type": "text/xml" }, "<a/>"],
    ["an unknown encoding", 415, { ...proto, "content-encoding": "br" }, "x"],
    ["no gzip", 400, { ...proto, "content-encoding": "gzip" }, "x"],
    ["10 MB", 413, proto, new Uint8Array(10_000_000)],
    [
      "a gzip bomb",
      413,
      { ...proto, "content-encoding": "gzip" },
      gzipSync(new Uint8Array(200_000_000)) as BodyInit,
    ],
    ["no token", 401, { "content-type": "application/json" }, "{}"],
    [
      "a wrong token",
      401,
      { ...json, authorization: "Bearer sender's toke" },
      "{}",
    ],
    ["an empty request", 200, json, "{}"],
    ["no bytes at all", 200, proto, new Uint8Array()],
    [
      "wrong types everywhere",
      200,
      json,
      '{"resourceSpans":[null,7,{"resource":[],"scopeSpans":{"a":1}},{"scopeSpans":[{"spans":["x",{}]}]}]}',
    ],
  ];
  for (const [label, status, headers, body] of cases) {
    test(`${label}: ${status}`, async () => {
      const response = await open.send(body as Uint8Array, headers);
      equal(response.status, status, await response.text());
      equal((await open.get("/health")).status, 200);
    });
  }

  test("spans that cannot be read are counted, the others are taken", async () => {
    const bad = JSON.parse(oneSpan({}));
    bad.resourceSpans[0].scopeSpans[0].spans.push(
      { traceId: "short", spanId: "00f067aa0ba902b7" },
      { traceId: "0".repeat(32), spanId: "00f067aa0ba902b8" },
      {
        traceId,
        spanId: "00f067aa0ba902b9",
        startTimeUnixNano: "9".repeat(19),
      },
    );
    const response = await open.send(JSON.stringify(bad), json);
    deepEqual(await response.json(), {
      partialSuccess: {
        rejectedSpans: "3",
        errorMessage: "a trace id that is not 16 bytes",
      },
    });
  });

  test("the page of a foreign host name gets nothing", async () => {
    const status = await new Promise((resolve, reject) => {
      request(`${open.url}/api/traces`, {
        headers: { host: "rebound.example" },
      }, (answer) => resolve(answer.resume().statusCode))
        .on("error", reject).end();
    });
    equal(status, 421);
  });
});

describe("in a span", () => {
  test("attributes have a bound in number, length and together", () => {
    const attributes = Array.from({ length: 200 }, (_, i) => ({
      key: `k${i}`.padEnd(2_000, "x"),
      value: { stringValue: "v".repeat(200_000) },
    }));
    const { span, bytes } = decodeOne({ attributes });
    ok(Object.keys(span.attributes).length <= limits.attributes);
    ok(JSON.stringify(span).length < 2 * limits.spanBytes);
    ok(bytes <= 2 * limits.spanBytes);
    for (const [key, value] of Object.entries(span.attributes)) {
      ok(key.length <= limits.keyLength);
      ok((value as string).length <= limits.textLength);
    }
  });

  test("deep nesting ends at a fixed depth, in both formats", () => {
    let value: unknown = { stringValue: "deep" };
    let packed = field(1, "deep");
    for (let i = 0; i < 1_000; i++) {
      value = { arrayValue: { values: [value] } };
      packed = field(5, field(1, packed));
    }
    const fromJson = decodeOne({ attributes: [{ key: "a", value }] });
    const pair = Buffer.concat([field(1, "a"), field(2, packed)]);
    const fromProto = decodeProtobuf(protoSpan(field(9, pair)), now).spans[0];
    const depth = (value: unknown): number =>
      Array.isArray(value) ? 1 + depth(value[0]) : 0;
    for (const { span } of [fromJson, fromProto]) {
      ok(depth(span.attributes.a) <= limits.depth + 1);
    }
  });

  test("bytes that are not UTF-8 become U+FFFD", () => {
    const name = field(5, Buffer.from([0x61, 0xff, 0xc3, 0x62]));
    const { span } = decodeProtobuf(protoSpan(name), now).spans[0];
    equal(span.name, "a\ufffd\ufffdb");
  });

  test("integers beyond 2^53 keep their digits, NaN and infinities their names", () => {
    const values = {
      big: { intValue: "9223372036854775807" },
      negative: { intValue: "-5" },
      nan: { doubleValue: "NaN" },
      odd: { doubleValue: {} },
      empty: {},
    };
    const { span } = decodeOne({
      attributes: Object.entries(values).map(([key, value]) => ({
        key,
        value,
      })),
    });
    deepEqual(span.attributes, {
      big: "9223372036854775807",
      negative: -5,
      nan: "NaN",
      odd: null,
      empty: null,
    });
    const varint = (...bytes: number[]) =>
      field(
        9,
        Buffer.concat([
          field(1, "n"),
          field(2, Buffer.from([3 * 8, ...bytes])),
        ]),
      );
    const minusOne = varint(...Array(9).fill(255), 1);
    equal(
      decodeProtobuf(protoSpan(minusOne), now).spans[0].span.attributes.n,
      -1,
    );
  });

  test("a name of the prototype is a name", () => {
    const { span } = decodeOne({
      attributes: [{ key: "__proto__", value: { stringValue: "x" } }, {
        key: "toString",
        value: { stringValue: "y" },
      }],
    });
    equal(Object.getPrototypeOf(span.attributes), Object.prototype);
    deepEqual(Object.keys(span.attributes).sort(), ["__proto__", "toString"]);
  });

  test("attributes of other types than ours are read as absent", () => {
    const types: unknown[] = [
      { stringValue: "x" },
      { doubleValue: "NaN" },
      { arrayValue: { values: [] } },
      { kvlistValue: { values: [{ key: "a", value: { intValue: 1 } }] } },
      { boolValue: true },
      {},
    ];
    const names = [
      "gen_ai.request.model",
      "gen_ai.usage.input_tokens",
      "gen_ai.operation.name",
      "quetzal.queue.wait_ms",
      "quetzal.token.provenance",
      "quetzal.token.texts",
      "gen_ai.input.messages",
    ];
    const spans = types.flatMap((value) =>
      [
        "chat x",
        "route",
        "decode",
        "decode.generate",
        "kv.fetch",
        "prefill.run",
      ]
        .map((name, i) => {
          const attributes = names.map((key) => ({ key, value }));
          const { span } = decodeOne({
            name,
            attributes,
            events: [{ name: "tokens", attributes }, {
              name: "candidate",
              attributes,
            }],
          });
          return {
            ...span,
            spanId: `${i}`.repeat(16),
            service: i < 3 ? "router" : i < 5 ? "decode" : "prefill",
          };
        })
    );
    const detail = describeTrace(traceId, spans, {
      captureContent: true,
      spansLeftOut: 0,
    });
    equal(detail.summary.promptTokens, null);
    ok(JSON.stringify(detail).length > 0);
  });

  test("parents in a circle and 4,000 children end", () => {
    const ids = ["1111111111111111", "2222222222222222"];
    const base = decodeOne({ name: "a" }).span;
    const circle = ids.map((spanId, i) => ({
      ...base,
      spanId,
      parentSpanId: ids[1 - i],
    }));
    const chain = Array.from({ length: 4_000 }, (_, i) => ({
      ...base,
      spanId: `${i + 10}`.padStart(16, "a"),
      parentSpanId: `${i + 9}`.padStart(16, "a"),
    }));
    const detail = describeTrace(traceId, [...circle, ...chain], {
      captureContent: false,
      spansLeftOut: 0,
    });
    equal(detail.spans.length, 4_002);
  });
});

test("decoders answer or refuse; they never hang, throw another error, or grow", () => {
  const real = ProtobufTraceSerializer.serializeRequest(demoRequest());
  const text = JsonTraceSerializer.serializeRequest(demoRequest());
  const check = (decode: typeof decodeJson, data: Uint8Array) => {
    try {
      const { spans } = decode(data, now);
      ok(JSON.stringify(spans).length < 40 * data.length + 10_000);
    } catch (error) {
      ok(error instanceof OtlpError, `${error}`);
    }
  };
  const damage = (base: Uint8Array) =>
    fc.array(fc.tuple(fc.nat(base.length - 1), fc.nat(255)), {
      minLength: 1,
      maxLength: 8,
    }).map((changes) => {
      const data = Uint8Array.from(base);
      for (const [at, byte] of changes) data[at] = byte;
      return data;
    });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (data) => {
      check(decodeProtobuf, data);
      check(decodeJson, data);
    }),
    { numRuns: 1_000 },
  );
  fc.assert(fc.property(damage(real), (d) => check(decodeProtobuf, d)), {
    numRuns: 2_000,
  });
  fc.assert(fc.property(damage(text), (d) => check(decodeJson, d)), {
    numRuns: 1_000,
  });
  for (let cut = 0; cut < real.length; cut += 7) {
    check(decodeProtobuf, real.subarray(0, cut));
  }
});
