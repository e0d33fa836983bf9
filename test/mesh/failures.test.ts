/** What the mesh promises when parts of it die, lie or are flooded. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { afterEach, test } from "vitest";
import { ask, metric, streamText } from "./ask.ts";
import { freePort } from "../../lib/testing/mod.ts";
import {
  addressesOf,
  decodeAddresses,
  runningWorker,
} from "./worker_status.ts";
import { type Mesh, type MeshOptions, startMesh } from "./start_mesh.ts";

let mesh: Mesh | undefined;
afterEach(async () => {
  await mesh?.[Symbol.asyncDispose]();
  mesh = undefined;
});

async function start(options: MeshOptions): Promise<Mesh> {
  mesh = await startMesh(options);
  return mesh;
}

/** Long enough to be in mid-stream for a while. */
const story = "Tell me a story about a fox named Pip.";
/**
 * Goes on behind its end, so that there is time to do harm: 900 tokens take a third of a
 * second on a quick machine, and harm is prepared from the first piece on.
 */
const longAnswer = { content: story, max_tokens: 900, ignore_eos: true };
/** Above the threshold under which decode computes a prompt itself. */
const longStory = `${
  "Here is what happened before. Pip the fox lived near a quiet river. ".repeat(
    8,
  )
}${story}`;

test("kill -9 of the decode worker in mid-stream: the greedy text goes on unchanged", async () => {
  const mesh = await start({ decode: 2 });
  const undisturbed = await ask(mesh, longAnswer);
  equal(undisturbed.status, 200);

  const workers = await decodeAddresses(mesh);
  let killed = "";
  const text = await streamText(
    mesh,
    longAnswer,
    async (pieces) => {
      if (pieces !== 1) return;
      killed = await runningWorker(workers);
      await mesh.process(killed).kill("SIGKILL");
    },
  );
  ok(killed !== "", "no worker was killed");
  equal(text, undisturbed.text);

  mesh.process(killed).start();
  await mesh.waitForWorkers({ prefill: 1, decode: 2 });
  equal(
    (await ask(mesh, longAnswer)).text,
    undisturbed.text,
  );
});

test("kill -9 of the only decode worker: the stream waits for its return", async () => {
  const mesh = await start({});
  const undisturbed = await ask(mesh, longAnswer);
  const workers = await decodeAddresses(mesh);
  let killed = "";
  const text = await streamText(
    mesh,
    longAnswer,
    async (pieces) => {
      if (pieces !== 1) return;
      killed = await runningWorker(workers);
      await mesh.process(killed).kill("SIGKILL");
      mesh.process(killed).start();
    },
  );
  ok(killed !== "", "no worker was killed");
  equal(text, undisturbed.text);
});

test("a sampled stream that moves to another worker draws the same tokens", async () => {
  const mesh = await start({ decode: 2 });
  const body = { ...longAnswer, temperature: 0.9, seed: 11 };
  const undisturbed = await ask(mesh, body);
  const workers = await decodeAddresses(mesh);
  let killed = "";
  const text = await streamText(mesh, body, async (pieces) => {
    if (pieces !== 1) return;
    killed = await runningWorker(workers);
    await mesh.process(killed).kill("SIGKILL");
  });
  ok(killed !== "", "no worker was killed");
  equal(text, undisturbed.text);
});

test("kill -9 of the prefill worker: requests go on, before and after", async () => {
  const metricsPort = await freePort();
  const mesh = await start({
    roleEnv: { decode: { QUETZAL_METRICS_PORT: `${metricsPort}` } },
  });
  const body = { content: longStory, max_tokens: 24 };
  const before = await ask(mesh, body);
  equal(before.status, 200);
  // Other prompts, so that no prefix cache hides the worker's absence.
  const others = Array.from({ length: 12 }, (_, i) => ({
    content: `Story ${i}. ${longStory.repeat(4)}`,
    max_tokens: 24,
  }));
  const prefill = await addressesOf(mesh, "prefill");
  const running = others.map((other) => ask(mesh, other));
  await runningWorker(prefill);
  equal(await mesh.process("prefill-0").kill("SIGKILL"), "signal SIGKILL");
  for (const answer of await Promise.all(running)) {
    equal(answer.status, 200);
    ok(answer.text.length > 0);
  }
  const broken = await metric(
    `http://127.0.0.1:${metricsPort}`,
    "quetzal:kv_transfer_errors_total",
  );
  ok(broken >= 1, "no transfer was under way");
  equal(
    (await ask(mesh, { ...body, content: `Again. ${longStory}` })).status,
    200,
  );
  equal((await ask(mesh, body)).text, before.text);
});

test("NATS restarted under load: no request fails, workers come back into view", async () => {
  const mesh = await start({});
  let stopped = false;
  const answers: Awaited<ReturnType<typeof ask>>[] = [];
  const load = Array.from({ length: 4 }, async (_, client) => {
    for (let i = 0; !stopped; i++) {
      answers.push(
        await ask(mesh, {
          content: `${client}.${i}: ${story}`,
          max_tokens: 16,
        }),
      );
    }
  });
  await pause(500);
  await mesh.nats.restart();
  await pause(1_500);
  await mesh.nats.restart({ loseData: true });
  await pause(3_000);
  stopped = true;
  await Promise.all(load);
  deepEqual(answers.filter(({ status }) => status !== 200), []);
  ok(answers.length > 20, `only ${answers.length} answers`);
  await mesh.waitForWorkers({ prefill: 1, decode: 1 });
});

test("corrupted KV blocks are recomputed, and counted", async () => {
  const healthy = await start({});
  const want = await ask(healthy, { content: longStory, max_tokens: 40 });
  await healthy[Symbol.asyncDispose]();

  const mesh = await start({
    roleEnv: {
      prefill: { QUETZAL_FAULT_KV: "corrupt:1" },
      decode: { QUETZAL_METRICS_PORT: "19187" },
    },
  });
  const got = await ask(mesh, { content: longStory, max_tokens: 40 });
  equal(got.text, want.text);
  const errors = await metric(
    "http://127.0.0.1:19187",
    "quetzal:kv_transfer_errors_total",
  );
  ok(errors >= 1, `${errors} transfer errors were counted`);
});

test("SIGTERM drains: running streams finish, the process ends with 0", async () => {
  const mesh = await start({ decode: 2 });
  const undisturbed = await ask(mesh, longAnswer);
  const workers = await decodeAddresses(mesh);
  let exit: Promise<string> | undefined;
  const text = await streamText(
    mesh,
    longAnswer,
    async (pieces) => {
      if (pieces === 1) {
        exit = mesh.process(await runningWorker(workers)).kill("SIGTERM");
      }
    },
  );
  equal(text, undisturbed.text);
  equal(await exit, "exit code 0");
  equal((await ask(mesh, { content: story, max_tokens: 8 })).status, 200);
});

test("a router that waits for a stream ends at once at a second signal", async () => {
  const mesh = await start({});
  const workers = await decodeAddresses(mesh);
  const router = mesh.process("router");
  let end = "";
  await rejects(streamText(mesh, longAnswer, async (pieces) => {
    if (pieces !== 1) return;
    // Nobody goes on with the stream, so that the first signal has to wait for it.
    await mesh.process(await runningWorker(workers)).kill("SIGKILL");
    void router.kill("SIGTERM");
    await pause(500);
    end = await router.kill("SIGTERM");
  }));
  equal(end, "exit code 1");
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
