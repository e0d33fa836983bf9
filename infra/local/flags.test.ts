import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { tempDir } from "../../lib/testing/mod.ts";
import { type AskConfig, parseAskFlags } from "./ask_flags.ts";
import { nameOf } from "./models.ts";
import { chooseRuntime } from "./runtime.ts";
import { parseUpFlags, type UpConfig } from "./up_flags.ts";

const root = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");

function up(args: string[], env: Record<string, string> = {}): UpConfig {
  const config = parseUpFlags(args, { env, root });
  if (config === "help") throw new Error("help was not asked for");
  return config;
}

function ask(args: string[], env: Record<string, string> = {}): AskConfig {
  const data = { QUETZAL_DATA_FOLDER: "/nonexistent" };
  const config = parseAskFlags(args, { env: { ...data, ...env }, root });
  if (config === "help") throw new Error("help was not asked for");
  return config;
}

test("up without flags serves the demo on the usual ports", () => {
  deepEqual(up([]), {
    models: [{
      name: "quetzal-demo",
      path: join(root, "models/quetzal-demo-q8_0.gguf"),
    }],
    prefillCount: 1,
    decodeCount: 1,
    httpPort: 8080,
    grpcPort: 50051,
    natsPort: undefined,
    dashboard: { kind: "usual", port: 8090 },
    threads: undefined,
    kvType: undefined,
    dataFolder: join(root, ".quetzal"),
    runtime: undefined,
    json: false,
  });
});

test("a flag counts more than the environment", () => {
  const env = { QUETZAL_HTTP_PORT: "81", QUETZAL_GRPC_PORT: "82" };
  const { httpPort, grpcPort } = up(["--http", "9000"], env);
  deepEqual([httpPort, grpcPort], [9000, 82]);
});

test("up passes on how KV is stored", () => {
  equal(up(["--kv-type", "q8_0"]).kvType, "q8_0");
  equal(up([], { QUETZAL_KV_TYPE: "q8_0" }).kvType, "q8_0");
});

test("models are found from the folder where the command was typed", async () => {
  await using dir = await tempDir("models");
  for (const name of ["Some Model.Q4_K_M.gguf", "b.gguf"]) {
    writeFileSync(join(dir.path, name), "GGUF....");
  }
  const args = ["--model", "Some Model.Q4_K_M.gguf", "--model", "other=b.gguf"];
  deepEqual(up(args, { INIT_CWD: dir.path }).models, [
    { name: "some-model", path: join(dir.path, "Some Model.Q4_K_M.gguf") },
    { name: "other", path: join(dir.path, "b.gguf") },
  ]);
});

const upFaults = [
  { args: ["--foo"], want: /Unknown option '--foo'/ },
  { args: ["stray"], want: /Unexpected argument 'stray'/ },
  { args: ["--http", "0"], want: /--http is "0", expected 1 to 65535/ },
  { args: ["--grpc", "8o80"], want: /--grpc is "8o80"/ },
  { args: ["--decode", "0"], want: /--decode is "0", expected 1 to 16/ },
  { args: ["--prefill", "17"], want: /--prefill is "17", expected 0 to 16/ },
  {
    args: ["--http", "9", "--grpc", "9"],
    want: /--http and --grpc are both 9/,
  },
  {
    args: ["--runtime", "node"],
    want: /--runtime is "node", expected bun or deno/,
  },
  {
    args: ["--kv-type", "q4_0"],
    want: /--kv-type is "q4_0", expected f16 or q8_0/,
  },
  {
    args: ["--model", "no.gguf"],
    want: /--model .*no\.gguf: expected a GGUF file, found no file there/,
  },
  {
    args: ["--model", "LICENSE"],
    want: /begins with "GGUF", found "MIT "/,
  },
  {
    args: [
      "--model",
      "models/quetzal-demo-q8_0.gguf",
      "--model",
      "models/quetzal-demo-f16.gguf",
    ],
    want: /are both named "quetzal-demo"; name one yourself: --model NAME=/,
  },
];

for (const { args, want } of upFaults) {
  test(`up ${args.join(" ")} is refused`, () => {
    throws(() => up(args), (error: Error & { exitCode: number }) => {
      ok(want.test(error.message), error.message);
      equal(error.exitCode, 2);
      return true;
    });
  });
}

test("up names every fault at once, and where each comes from", () => {
  throws(
    () => up(["--decode", "x", "--model", "no"], { QUETZAL_GRPC_PORT: "y" }),
    /--decode is "x".*; QUETZAL_GRPC_PORT is "y".*; --model .*no/,
  );
});

test("ask joins its words and knows its defaults", () => {
  deepEqual(ask(["What", "is", "it?"]), {
    prompt: "What is it?",
    model: "",
    maxTokens: 256,
    temperature: 0,
    seed: undefined,
    raw: false,
    json: false,
    grpc: "127.0.0.1:50051",
  });
  equal(ask(["a"], { QUETZAL_GRPC_PORT: "7" }).grpc, "127.0.0.1:7");
  equal(ask(["a", "--seed", "42", "--grpc", "h:1"]).seed, 42n);
});

const askFaults = [
  { args: [], want: /the question is missing/ },
  { args: ["a", "--temperature", "hot"], want: /--temperature is "hot"/ },
  { args: ["a", "--temperature", "101"], want: /expected 0 to 100/ },
  { args: ["a", "--seed", "1.5"], want: /--seed is "1.5"/ },
  {
    args: ["a", "--grpc", "nowhere"],
    want: /--grpc is "nowhere", expected host:port/,
  },
  { args: ["a", "--bar"], want: /Unknown option '--bar'/ },
];

for (const { args, want } of askFaults) {
  test(`ask ${args.join(" ") || "without a question"} is refused`, () => {
    throws(() => ask(args), want);
  });
}

const names = [
  ["models/quetzal-demo-q8_0.gguf", "quetzal-demo"],
  ["Llama-3.2-1B-Instruct-Q4_K_M.gguf", "llama-3.2-1b-instruct"],
  ["qwen.IQ2_XXS.gguf", "qwen"],
  ["tiny-bf16.GGUF", "tiny"],
  ["phi-4.gguf", "phi-4"],
];

for (const [file, want] of names) {
  test(`nameOf() calls ${file} ${want}`, () => equal(nameOf(file), want));
}

const machine = { denoProgram: "/d", bunProgram: "/b", hasAvx2: true };
const runtimes = [
  {
    label: "Bun",
    wanted: undefined,
    facts: machine,
    name: "bun",
    noted: false,
  },
  {
    label: "Deno on demand",
    wanted: "deno",
    facts: machine,
    name: "deno",
    noted: false,
  },
  {
    label: "Deno without AVX2, and says so",
    wanted: "bun",
    facts: { ...machine, hasAvx2: false },
    name: "deno",
    noted: true,
  },
  {
    label: "Deno without Bun's package, and says so",
    wanted: undefined,
    facts: { ...machine, bunProgram: undefined },
    name: "deno",
    noted: true,
  },
] as const;

for (const { label, wanted, facts, name, noted } of runtimes) {
  test(`chooseRuntime() takes ${label}`, () => {
    const runtime = chooseRuntime(wanted, facts);
    deepEqual([runtime.name, runtime.note !== undefined], [name, noted]);
  });
}

test("the dashboard is on its usual port, another one, or off", () => {
  const usual = { kind: "usual", port: 8090 };
  deepEqual(up([]).dashboard, usual);
  deepEqual(up(["--dashboard", "9000"]).dashboard, {
    kind: "fixed",
    port: 9000,
  });
  deepEqual(up([], { QUETZAL_DASHBOARD_PORT: "9001" }).dashboard, {
    kind: "fixed",
    port: 9001,
  });
  const off = { kind: "off" };
  deepEqual(up(["--dashboard", "0"]).dashboard, off);
  deepEqual(up(["--no-dashboard"]).dashboard, off);
  deepEqual(up([], { QUETZAL_DASHBOARD_PORT: "0" }).dashboard, off);
  throws(() => up(["--dashboard", "http"]), /--dashboard is "http"/);
});
