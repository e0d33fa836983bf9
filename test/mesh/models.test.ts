/** Models that come and go on running workers, in a mesh of real processes. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, test, vi } from "vitest";
import { Code, MeshError } from "../../lib/errors/mesh_error.ts";
import {
  isResumed,
  sha256,
  startFileServer,
} from "../../lib/model_source/testing/file_server.ts";
import { tempDir } from "../../lib/testing/mod.ts";
import { ModelState } from "../../proto/gen/quetzal/v1/control.ts";
import { ask, eventually, streamText } from "./ask.ts";
import { type Control, controlOf } from "./control.ts";
import {
  demoModel,
  type Mesh,
  type MeshOptions,
  startMesh,
} from "./start_mesh.ts";

// Real processes, started for each test, on machines that may have other work.
vi.setConfig({ testTimeout: 120_000 });

const root = new URL("../..", import.meta.url).pathname;
const demoPath = join(root, "models/quetzal-demo-q8_0.gguf");
const secondPath = join(root, "models/quetzal-draft-q8_0.gguf");
const both = `${demoModel},second=${secondPath}`;

let mesh: Mesh | undefined;
let control: Control | undefined;
afterEach(async () => {
  await control?.[Symbol.asyncDispose]();
  await mesh?.[Symbol.asyncDispose]();
  mesh = control = undefined;
});

async function start(
  options: MeshOptions,
): Promise<{ mesh: Mesh; control: Control }> {
  mesh = await startMesh(options);
  const count = (options.prefill ?? 1) + (options.decode ?? 1);
  control = await controlOf(mesh, count);
  return { mesh, control };
}

const story = "Tell me a story about a fox named Pip.";
const longAnswer = { content: story, max_tokens: 400, ignore_eos: true };
const inSecond = { model: "second", content: story, max_tokens: 8 };

test("a model that is loaded at run time is served through the router, and is gone after its unload", async () => {
  const { mesh, control } = await start({
    models: both,
    workerModels: demoModel,
    env: { QUETZAL_ROUTER_HOLD: "300ms" },
  });
  const absent = await ask(mesh, inSecond);
  equal(absent.status, 503);
  ok(/needs a worker/.test(absent.error!.message), absent.error!.message);

  for (const workerId of ["prefill-0", "decode-0"]) {
    const status = await control.load(workerId, "second", secondPath);
    equal(status.state, ModelState.MODEL_STATE_RUNNING);
    ok(status.weightBytes > 1_000_000n && status.kvBytes > 0n);
  }
  const { status, text } = await ask(mesh, inSecond);
  equal(status, 200);
  ok(text.length > 0);
  equal((await ask(mesh, { content: story, max_tokens: 4 })).status, 200);
  ok(await hasSeries(control, "second"));

  for (const workerId of ["prefill-0", "decode-0"]) {
    equal(await control.unload(workerId, "second"), 0);
    await control.waitForState(workerId, "second", undefined);
  }
  equal((await ask(mesh, inSecond)).status, 503);
  equal(await hasSeries(control, "second"), false);
  ok(await hasSeries(control, "quetzal-demo"));
});

async function hasSeries(
  { record }: Control,
  model: string,
): Promise<boolean> {
  const { metricsAddress } = record("decode-0");
  const response = await fetch(`http://${metricsAddress}/metrics`);
  return (await response.text()).includes(`model_name="${model}"`);
}

test("workers that start without models are healthy and take them later", async () => {
  const { mesh, control } = await start({
    models: demoModel,
    workerModels: "",
  });
  const { metricsAddress, models, memoryBytesFree, memoryBytesTotal } = control
    .record("decode-0");
  deepEqual(models, []);
  ok(memoryBytesTotal > 0 && memoryBytesFree === memoryBytesTotal);
  equal((await fetch(`http://${metricsAddress}/health`)).status, 200);
  await control.load("prefill-0", "quetzal-demo", demoPath);
  await control.load("decode-0", "quetzal-demo", demoPath);
  await control.waitForState("decode-0", "quetzal-demo", "running");
  equal((await ask(mesh, { content: story, max_tokens: 4 })).status, 200);
  ok(control.record("decode-0").memoryBytesFree < memoryBytesTotal);
});

test("an unload under load loses no answer: those that are cut go on elsewhere, unchanged", async () => {
  const { mesh, control } = await start({ decode: 2 });
  // Long enough to be cut on a quick machine too.
  const answer = { ...longAnswer, max_tokens: 900 };
  const undisturbed = await ask(mesh, answer);
  let unloading: Promise<unknown> | undefined;
  const streamed = () =>
    streamText(mesh, answer, (pieces) => {
      if (pieces === 20) {
        unloading ??= control.unload("decode-0", "quetzal-demo", 1_000);
      }
    });
  const plain = async () => (await ask(mesh, answer)).text;
  // Few streams: who reads thousands of pieces sends the unload too late for its deadline.
  const texts = await Promise.all(
    Array.from({ length: 32 }, (_, i) => i % 8 === 0 ? streamed() : plain()),
  );
  await unloading;
  deepEqual(texts, Array(32).fill(undisturbed.text));
  await control.waitForState("decode-0", "quetzal-demo", undefined);
  const log = mesh.process("decode-0").log();
  ok(/"kind":"unload".*"cut":[1-9]/.test(log), "no sequence was cut:\n" + log);
  // The one that is left serves on.
  equal((await ask(mesh, answer)).text, undisturbed.text);
});

test("a model put to sleep and woken under load: every answer is whole or a clear error", async () => {
  const { mesh, control } = await start({
    decode: 2,
    env: { QUETZAL_ROUTER_HOLD: "5s" },
  });
  const undisturbed = await ask(mesh, longAnswer);
  // However fast answers are, there is load until the last nap.
  let naps = 0;
  const client = async () => {
    const answers = [];
    do answers.push(await ask(mesh, longAnswer)); while (naps < 4);
    return answers;
  };
  const asked = Promise.all(Array.from({ length: 24 }, client));
  // Fewer than the attempts that a router makes for one sequence.
  for (; naps < 4; naps++) {
    const workerId = `decode-${naps % 2}`;
    await runs(control, workerId);
    await control.sleep(workerId, "quetzal-demo", 300);
    const { state } = await control.wake(workerId, "quetzal-demo");
    equal(state, ModelState.MODEL_STATE_RUNNING);
  }
  const answers = (await asked).flat();
  for (const { status, text, error } of answers) {
    if (status === 200) equal(text, undisturbed.text);
    else ok(status === 503 && error!.message.length > 0, JSON.stringify(error));
  }
  const whole = answers.filter(({ status }) => status === 200).length;
  equal(whole, answers.length, `${whole} of ${answers.length} were whole`);
});

/** Resolves when it has a sequence. */
async function runs(control: Control, workerId: string): Promise<void> {
  await eventually(async () => {
    const { models } = await control.status(workerId);
    return models.some(({ running }) => running > 0) || undefined;
  });
}

test("a model asleep on the only worker answers again after it is woken, with the same text", async () => {
  const { mesh, control } = await start({});
  const question = { content: story, max_tokens: 16 };
  const before = await ask(mesh, question);
  const asleep = await control.sleep("decode-0", "quetzal-demo");
  equal(asleep?.blocksTotal, 0);
  await control.waitForState("decode-0", "quetzal-demo", "asleep");
  equal(
    control.record("decode-0").memoryBytesFree,
    control.record("decode-0").memoryBytesTotal,
  );
  const held = ask(mesh, question);
  await control.wake("decode-0", "quetzal-demo");
  equal((await held).text, before.text);
});

test("a model beyond the memory is refused with both numbers, a broken file with its fault", async () => {
  const { mesh, control } = await start({
    models: both,
    workerModels: demoModel,
    roleEnv: {
      decode: {
        QUETZAL_MODEL_MEMORY_BYTES: "60MB",
        QUETZAL_KV_BLOCKS: "256",
      },
    },
  });
  const free = control.record("decode-0").memoryBytesFree;
  await rejects(
    control.load("decode-0", "big", join(root, "models/quetzal-demo-f16.gguf")),
    (error) => {
      ok(error instanceof MeshError && error.code === Code.resourceExhausted);
      ok(
        new RegExp(`needs \\d+ bytes of memory, ${free} of 60000000 are free`)
          .test(error.message),
        error.message,
      );
      return true;
    },
  );
  await rejects(
    control.load("decode-0", "broken", join(root, "README.md")),
    /expected magic|GGUF/,
  );
  await rejects(
    control.load("decode-0", "none", "/no/such/file.gguf"),
    (error) => error instanceof MeshError && error.code === Code.notFound,
  );
  equal(control.record("decode-0").memoryBytesFree, free);
  equal((await ask(mesh, { content: story, max_tokens: 4 })).status, 200);
});

test("a model from a URL is downloaded once for all workers of the machine", async () => {
  await using folder = await tempDir("cache");
  const content = readFileSync(secondPath);
  await using server = await startFileServer(content);
  server.faults.push({ kind: "cut", afterBytes: 1_000_000 });
  const { mesh, control } = await start({
    models: both,
    workerModels: demoModel,
    env: { QUETZAL_MODEL_CACHE: folder.path },
  });
  const source = { url: server.url, sha256: sha256(content) };
  const states = await Promise.all(
    ["prefill-0", "decode-0"].map((workerId) =>
      control.load(workerId, "second", source)
    ),
  );
  deepEqual(
    states.map(({ state }) => state),
    Array(2).fill(ModelState.MODEL_STATE_RUNNING),
  );
  equal(server.asked.length, 2);
  ok(isResumed(server.asked[1], 1_000_000), `${server.asked[1]}`);
  equal((await ask(mesh, inSecond)).status, 200);
  await rejects(
    control.load("decode-0", "third", { ...source, sha256: "0".repeat(64) }),
    (error) => error instanceof MeshError && error.code === Code.dataLoss,
  );
});

test("a model that the bucket names is known to the router at once, and no more when it is removed", async () => {
  const { mesh, control } = await start({ models: "", workerModels: "" });
  equal((await ask(mesh, inSecond)).status, 404);
  equal((await fetch(`${mesh.httpUrl}/health`)).status, 503);
  equal((await fetch(`${mesh.httpUrl}/ready`)).status, 200);

  const source = { path: secondPath };
  await control.bus.putModel({ model: "second", source, aliases: ["2nd"] });
  await eventually(async () => {
    const response = await fetch(`${mesh.httpUrl}/v1/models`);
    const { data } = await response.json();
    return data.some(({ id }: { id: string }) => id === "second") || undefined;
  });
  // No worker has it yet: the request is held until one does.
  const held = ask(mesh, { ...inSecond, model: "2nd" });
  await control.load("decode-0", "second", secondPath);
  equal((await held).status, 200);

  await control.bus.putModel({ model: "later", source: { path: "/none" } });
  const unread = await eventually(async () => {
    const answer = await ask(mesh, { ...inSecond, model: "later" });
    return answer.status === 503 ? answer : undefined;
  });
  equal(unread.error!.code, "model_not_ready");
  await control.bus.removeModel("second");
  await eventually(async () =>
    (await ask(mesh, inSecond)).status === 404 || undefined
  );
});

test("50 loads and unloads leave the worker's memory where it was", async () => {
  const { mesh, control } = await start({
    prefill: 0,
    models: both,
    workerModels: demoModel,
  });
  const cycle = async () => {
    await control.load("decode-0", "second", secondPath);
    equal((await ask(mesh, inSecond)).status, 200);
    await control.unload("decode-0", "second");
  };
  // Code is compiled and heaps have their size after some cycles.
  for (let i = 0; i < 10; i++) await cycle();
  const { pid } = mesh.process("decode-0");
  const firstMb = rssMb(pid);
  for (let i = 0; i < 50; i++) await cycle();
  const lastMb = await eventually(() => {
    const now = rssMb(pid);
    return Promise.resolve(now < firstMb + 40 ? now : undefined);
  }).catch(() => rssMb(pid));
  console.log(`RSS over 50 loads: ${firstMb} MB, then ${lastMb} MB`);
  // One leaked model would be 14 MB of weights alone: 700 MB in all.
  ok(lastMb < firstMb + 40, `RSS went from ${firstMb} to ${lastMb} MB`);
});

function rssMb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Math.round(Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) / 1_024);
}
