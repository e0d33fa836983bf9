/**
 * Measures meshes and the engine in this process side by side; started by the
 * benchmarks under Bun, prints one JSON object.
 *
 * Every round measures each side once, so that drift of the machine hits all.
 */
import { parseArgs } from "node:util";
import { engineGenerator } from "./engine_generator.ts";
import type { Generator } from "./generator.ts";
import { meshGenerator } from "./mesh_generator.ts";
import { freshPrompt, timeStream, timeThroughput } from "./timing.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "30" },
    pairs: { type: "string", default: "5" },
    /** NAME=host:port, repeatable */
    mesh: { type: "string", multiple: true, default: [] },
    /** The name of a mesh that is only asked one stream at a time, repeatable */
    idle: { type: "string", multiple: true, default: [] },
  },
});
if (!values.model) {
  throw new Error("Cannot probe: needs --model FILE, found none");
}

const sides = new Map<string, Generator>();
sides.set(
  "engine",
  await engineGenerator(values.model, {
    threads: Number(values.threads),
    runningMax: 64,
  }),
);
for (const mesh of values.mesh) {
  const [name, address] = mesh.split("=");
  sides.set(name, meshGenerator(address, "quetzal-demo"));
}

/** Below the threshold under which decode computes a prompt itself, and above. */
const promptLengths = { short: 24, long: 320 };

type Series = Record<string, number[]>;
const ttft: Record<string, Series> = {};
const token: Series = {};
const throughput: Series = {};

for (const generator of sides.values()) {
  // A mesh that has run for a while is what users meet: its code is compiled.
  for (let i = 0; i < 100; i++) {
    await timeStream(generator, freshPrompt(promptLengths.short), 8);
    if (i % 4 === 0) {
      await timeStream(generator, freshPrompt(promptLengths.long), 2);
    }
  }
}
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [name, generator] of sides) {
    for (const [length, tokens] of Object.entries(promptLengths)) {
      const timing = await timeStream(generator, freshPrompt(tokens), 64);
      ((ttft[length] ??= {})[name] ??= []).push(timing.ttftMs);
      if (length === "short") (token[name] ??= []).push(timing.tokenMs);
    }
  }
}
const load = { streams: 64, promptTokens: 24, maxTokens: 96, seconds: 2.5 };
const loaded = [...sides].filter(([name]) => !values.idle.includes(name));
for (const [, generator] of loaded) {
  // As above: what 64 streams run through is compiled too.
  await timeThroughput(generator, { ...load, seconds: 20 });
}
for (let pair = 0; pair < Number(values.pairs); pair++) {
  for (const [name, generator] of loaded) {
    (throughput[name] ??= []).push(await timeThroughput(generator, load));
  }
}
console.log(JSON.stringify({ ttft, token, throughput }));
for (const generator of sides.values()) await generator[Symbol.asyncDispose]();
process.exit(0);
