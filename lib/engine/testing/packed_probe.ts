/**
 * A process that loads a model with a cache of packed weights, waits until the file is
 * kept or refused, and prints its tokens: `bun packed_probe.ts MODEL FOLDER`.
 */
import process from "node:process";
import { loadNative } from "../../../kernels/addon/mod.ts";
import { createEngine } from "../mod.ts";
import type { Native } from "../native.ts";
import { promptOf, run } from "./sequences.ts";

const [path, folder] = process.argv.slice(2);
const native = loadNative();
const warnings: string[] = [];
const stored = Promise.withResolvers<boolean>();
/** The addon, with an eye on what becomes of the file. */
const watched: Native = {
  ...native,
  async loadModel(spec) {
    const model = await native.loadModel(spec);
    const store = model.storePacked!.bind(model);
    model.storePacked = () => {
      const done = store();
      done.then(stored.resolve, () => stored.resolve(false));
      return done;
    };
    if (model.isMapped) stored.resolve(false);
    return model;
  },
};
await using engine = await createEngine({
  path,
  native: watched,
  kvBlocks: 8,
  packedCache: { folder, bytesMax: 2 ** 30 },
  onWarning: (message, cause) => {
    warnings.push(`${message}: ${cause}`);
    stored.resolve(false);
  },
});
const { ids } = await run(engine, { prompt: promptOf(20), maxTokens: 12 });
console.log(JSON.stringify({ ids, isStored: await stored.promise, warnings }));
