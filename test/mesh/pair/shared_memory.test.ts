/** KV through memory that both workers share: with every fault, the tokens stay the same. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { readdirSync, readlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "vitest";
import {
  SharedFiles,
  type SharedTarget,
} from "../../../lib/kv_transport/mod.ts";
import { tempDir, waitFor } from "../../../lib/testing/mod.ts";
import { FakeEngine } from "../../../lib/worker/testing/fake_engine.ts";
import {
  generate,
  type Pair,
  type PairOptions,
  promptOf,
  requestOf,
  startPair,
} from "./start_pair.ts";

let undo: AsyncDisposableStack;
let folder: string;
let files: WatchedFiles;

/** Counts what goes through, and may spoil it. */
class WatchedFiles extends SharedFiles {
  blocks = 0;
  spoil: ((block: number, payload: Uint8Array) => void) | undefined;

  override use(...offer: Parameters<SharedFiles["use"]>) {
    const target = super.use(...offer);
    return target && this.#watch(target);
  }

  #watch(target: SharedTarget): SharedTarget {
    return {
      write: (payload, position) => {
        const copy = Uint8Array.from(payload);
        this.spoil?.(this.blocks, copy);
        this.blocks++;
        target.write(copy, position);
      },
      [Symbol.dispose]: () => target[Symbol.dispose](),
    };
  }
}

beforeEach(async () => {
  undo = new AsyncDisposableStack();
  folder = undo.use(await tempDir("shm")).path;
  files = undo.use(new WatchedFiles(folder));
});
afterEach(() => undo.disposeAsync());

async function start(options: Partial<PairOptions> = {}): Promise<Pair> {
  return undo.use(
    await startPair({
      prefillEngines: { fake: new FakeEngine() },
      decodeEngines: { fake: new FakeEngine() },
      transport: { shared: { folder, bytes: 1 << 16 } },
      sharedFiles: files,
      ...options,
    }),
  );
}

let prompts = 0;

/** A prompt nobody has cached; the ids of its answer, and how it came. */
async function ask(pair: Pair, tokens = 200) {
  const request = requestOf({
    promptIds: promptOf(tokens, ++prompts),
    prefillAddress: pair.prefill.address,
  });
  const { ids, started } = await generate(pair, request);
  const alone = await generate(pair, { ...request, prefillAddress: "" });
  deepEqual(ids, alone.ids);
  equal(ids.length, 8);
  return started!;
}

test("blocks go through the file, which has no name any more", async () => {
  const pair = await start();
  for (const count of [1, 16, 17, 200]) {
    const before = files.blocks;
    const started = await ask(pair, count);
    equal(started.transferredTokens, count);
    equal(Number(started.transferredBytes), Math.ceil(count / 16) * 256);
    equal(files.blocks - before, Math.ceil(count / 16));
  }
  deepEqual(readdirSync(folder), []);
  equal(files.count, 1);
  deepEqual(pair.observer.failures, []);
});

test("a worker that is not asked any more holds no file open", async () => {
  const pair = await start({
    transport: { shared: { folder, bytes: 1 << 16 }, idleMs: 300 },
  });
  await ask(pair);
  equal(openFiles(), 2, "one at each end");
  await waitFor(() => openFiles() === 1, { what: "the reader's end closed" });
  const before = files.blocks;
  await ask(pair);
  ok(files.blocks > before, "the next prompt goes through a new file");
  deepEqual(pair.observer.failures, []);
});

/** Descriptors of shared files that this process, which is both workers, has now. */
function openFiles(): number {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // Closed since it was listed.
      return "";
    }
  });
  return links.filter((path) => path.startsWith(folder)).length;
}

test("many prompts at once share the file without harm, and those without room go by the network", async () => {
  const pair = await start({
    transport: { shared: { folder, bytes: 4_096 + 256 * 30 } },
    prefillEngines: { fake: new FakeEngine({ chunkMs: 5 }) },
  });
  const all = await Promise.all(
    Array.from({ length: 12 }, () => ask(pair, 160)),
  );
  ok(all.every(({ transferredTokens }) => transferredTokens === 160));
  ok(files.blocks >= 30 && files.blocks < 120, `${files.blocks}`);
  // All rooms came back: the next three find theirs.
  const before = files.blocks;
  for (let i = 0; i < 3; i++) await ask(pair, 480);
  equal(files.blocks - before, 90);
  deepEqual(pair.observer.failures, []);
});

test("a spoilt block is noticed, and everything from it on is computed here", async () => {
  const pair = await start();
  files.spoil = (block, payload) => {
    if (block === 5) payload[17] ^= 4;
  };
  const started = await ask(pair, 200);
  equal(started.transferredTokens, 5 * 16);
  deepEqual(pair.observer.failures, ["checksum"]);
  files.spoil = undefined;
  equal((await ask(pair, 200)).transferredTokens, 200);
});

test("a file system without room leaves the rest to the network", async () => {
  const pair = await start();
  files.spoil = (block) => {
    if (block >= 3) throw new Error("no space left on device");
  };
  const started = await ask(pair, 200);
  equal(started.transferredTokens, 200);
  equal(files.blocks, 3);
  deepEqual(pair.observer.failures, []);
});

test("workers that do not share a folder use the network, and stop trying", async () => {
  await using other = await tempDir("shm-of-another-host");
  const pair = await start({
    transport: { shared: { folder: other.path, bytes: 1 << 16 } },
  });
  for (let i = 0; i < 3; i++) {
    equal((await ask(pair, 100)).transferredTokens, 100);
  }
  equal(files.blocks, 0);
  deepEqual(readdirSync(other.path), []);
  deepEqual(pair.observer.failures, []);
});

test("a folder that does not exist means the network", async () => {
  const pair = await start({
    transport: { shared: { folder: "/no/such/folder", bytes: 1 << 16 } },
  });
  equal((await ask(pair, 100)).transferredTokens, 100);
});

test("a prefill worker that has forgotten the file is offered another one", async () => {
  const pair = await start();
  await ask(pair, 100);
  // As after its restart.
  files[Symbol.dispose]();
  equal((await ask(pair, 100)).transferredTokens, 100);
  const before = files.blocks;
  equal((await ask(pair, 100)).transferredTokens, 100);
  equal(files.blocks - before, 7);
  deepEqual(readdirSync(folder), []);
});

test("names that a killed worker left are swept, others are not touched", async () => {
  const old = new Date(Date.now() - 120_000);
  const stray = join(folder, `quetzal-kv-${"a".repeat(32)}`);
  for (const path of [stray, join(folder, "mine")]) {
    writeFileSync(path, "");
    utimesSync(path, old, old);
  }
  const young = `quetzal-kv-${"b".repeat(32)}`;
  writeFileSync(join(folder, young), "");
  await start();
  deepEqual(readdirSync(folder).toSorted(), ["mine", young]);
});
