import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "vitest";
import { type ConfigReader, type Env, readConfig } from "./mod.ts";

function read<C>(
  env: Env,
  fields: (reader: ConfigReader) => C,
  prefix?: string,
) {
  return readConfig({ what: "the router", env, prefix }, fields);
}

test("readConfig() fills fallbacks, also for empty values", () => {
  const config = read({ PORT: "", NAME: " a " }, (reader) => ({
    port: reader.integer("PORT", [1, 65_535], 8080),
    name: reader.text("NAME"),
    endpoint: reader.url("ENDPOINT", ["http"], undefined),
  }));
  deepEqual(config, { port: 8080, name: "a", endpoint: undefined });
});

test("readConfig() reports every fault at once", () => {
  const parse = () =>
    read({ PORT: "http" }, (reader) => {
      reader.integer("PORT", [1, 65_535], 8080);
      reader.text("NATS_URL");
    });
  throws(parse, {
    name: "RangeError",
    message: "Cannot start the router: " +
      'PORT is "http", expected 1..65535; NATS_URL is missing',
  });
});

const accepted: {
  label: string;
  value: string;
  field: (reader: ConfigReader) => unknown;
  want: unknown;
}[] = [
  {
    label: "integer",
    value: "-7",
    field: (r) => r.integer("K", [-9, 9]),
    want: -7,
  },
  {
    label: "number",
    value: "0.25",
    field: (r) => r.number("K", [0, 1]),
    want: 0.25,
  },
  { label: "boolean", value: "On", field: (r) => r.boolean("K"), want: true },
  {
    label: "boolean no",
    value: "0",
    field: (r) => r.boolean("K"),
    want: false,
  },
  {
    label: "one of",
    value: "bun",
    field: (r) => r.oneOf("K", ["deno", "bun"]),
    want: "bun",
  },
  { label: "list", value: "a, b", field: (r) => r.list("K"), want: ["a", "b"] },
  {
    label: "address",
    value: "w-1.mesh:50051",
    field: (r) => r.address("K"),
    want: "w-1.mesh:50051",
  },
  {
    label: "v6 address",
    value: "[::1]:1",
    field: (r) => r.address("K"),
    want: "[::1]:1",
  },
  {
    label: "url",
    value: "nats://bus:4222",
    field: (r) => r.url("K", ["nats", "tls"]),
    want: "nats://bus:4222",
  },
  {
    label: "duration",
    value: "1.5s",
    field: (r) => r.durationMs("K", [0, 9e3]),
    want: 1_500,
  },
  {
    label: "plain duration",
    value: "250",
    field: (r) => r.durationMs("K", [0, 9e3]),
    want: 250,
  },
  {
    label: "bytes",
    value: "1.5GiB",
    field: (r) => r.bytes("K", [0, 2 ** 40]),
    want: 1_610_612_736,
  },
  {
    label: "path",
    value: "./models",
    field: (r) => r.path("K"),
    want: "./models",
  },
];

for (const { label, value, field, want } of accepted) {
  test(`readConfig() accepts ${label}: ${value}`, () => {
    deepEqual(read({ K: value }, field), want);
  });
}

const refused: {
  label: string;
  value: string;
  field: (reader: ConfigReader) => unknown;
  expected: string;
}[] = [
  {
    label: "a fraction",
    value: "1.5",
    field: (r) => r.integer("K", [0, 9]),
    expected: "0..9",
  },
  {
    label: "hexadecimal",
    value: "0x5",
    field: (r) => r.integer("K", [0, 9]),
    expected: "0..9",
  },
  {
    label: "too small",
    value: "-1",
    field: (r) => r.integer("K", [0, 9]),
    expected: "0..9",
  },
  {
    label: "not a number",
    value: "NaN",
    field: (r) => r.number("K", [0, 1]),
    expected: "0..1",
  },
  {
    label: "maybe",
    value: "maybe",
    field: (r) => r.boolean("K"),
    expected: "true or false",
  },
  {
    label: "a name of the prototype",
    value: "constructor",
    field: (r) => r.boolean("K"),
    expected: "true or false",
  },
  {
    label: "unknown choice",
    value: "node",
    field: (r) => r.oneOf("K", ["deno", "bun"]),
    expected: "one of deno, bun",
  },
  {
    label: "empty entry",
    value: "a,,b",
    field: (r) => r.list("K"),
    expected: "a comma separated list",
  },
  {
    label: "no port",
    value: "host",
    field: (r) => r.address("K"),
    expected: "host:port",
  },
  {
    label: "port 70000",
    value: "host:70000",
    field: (r) => r.address("K"),
    expected: "host:port",
  },
  {
    label: "other scheme",
    value: "ftp://x",
    field: (r) => r.url("K", ["http", "https"]),
    expected: "a URL with http, https",
  },
  {
    label: "unknown unit",
    value: "5 weeks",
    field: (r) => r.durationMs("K", [0, 9]),
    expected: "0..9 ms, or with a unit: ms, s, m, h",
  },
];

for (const { label, value, field, expected } of refused) {
  test(`readConfig() refuses ${label}`, () => {
    throws(() => read({ K: value }, field), {
      message: `Cannot start the router: K is "${value}", expected ${expected}`,
    });
  });
}

test("readConfig() names unknown keys of the prefix, and not those of Kubernetes", () => {
  const env = {
    ROUTER_PROT: "1",
    ROUTER_SERVICE_HOST: "10.0.0.1",
    ROUTER_PORT_8080_TCP_ADDR: "10.0.0.1",
    PATH: "/bin",
  };
  throws(
    () =>
      read(
        env,
        (reader) => reader.integer("ROUTER_PORT", [1, 9], 1),
        "ROUTER_",
      ),
    {
      message:
        "Cannot start the router: ROUTER_PROT is unknown, known are ROUTER_PORT",
    },
  );
});

test("readConfig() keeps a secret out of the error", () => {
  const parse = () =>
    readConfig(
      { what: "the router", env: { KEY: "hunter2" }, secrets: ["KEY"] },
      (reader) => reader.integer("KEY", [0, 1]),
    );
  throws(parse, {
    message: "Cannot start the router: KEY is not usable, expected 0..1",
  });
});

test("fault() adds a sentence about several fields", () => {
  throws(() => read({}, (reader) => reader.fault("A and B are both 1")), {
    message: "Cannot start the router: A and B are both 1",
  });
  equal(read({}, () => 1), 1);
});
