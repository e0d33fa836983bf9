import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { afterEach, beforeEach, test } from "vitest";
import { createLocalBus, type MeshBus } from "../../../lib/bus/mod.ts";
import { Code, type MeshError } from "../../../lib/errors/mesh_error.ts";
import type { ModelSource } from "../../../lib/model_source/mod.ts";
import { createLogger } from "../../../lib/telemetry/mod.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import { ModelCatalog, type ServedModel } from "../core/mod.ts";
import { followModels } from "./follow_models.ts";

const served = (name: string) => ({ name }) as ServedModel;

let bus: MeshBus;
let catalog: ModelCatalog;
let undo: AsyncDisposableStack;
let loads: { name: string; source: ModelSource; signal: AbortSignal }[];
let load: (name: string, onProgress: (share: number) => void) => Promise<void>;

beforeEach(() => {
  undo = new AsyncDisposableStack();
  bus = undo.use(createLocalBus());
  catalog = new ModelCatalog([served("fixed")]);
  loads = [];
  load = () => Promise.resolve();
  undo.use(followModels({
    bus,
    catalog,
    logger: createLogger({ service: "router", level: "silent" }),
    async load({ name, source }, { signal, onProgress }) {
      loads.push({ name, source, signal });
      await load(name, onProgress);
      return served(name);
    },
    retryMs: 1,
    random: () => 0.5,
  }));
});
afterEach(() => undo.disposeAsync());

const put = (model: string, path = "/m", aliases?: string[]) =>
  bus.putModel({ model, source: { path }, aliases });

const isKnown = (name: string) => () => {
  try {
    return catalog.resolve(name).name === name || catalog.resolve(name).name;
  } catch {
    return false;
  }
};

function fails(name: string, code: Code, message: RegExp) {
  throws(() => catalog.resolve(name), (error: MeshError) => {
    equal(error.code, code, error.message);
    ok(message.test(error.message), error.message);
    return true;
  });
}

test("a model of the bucket can be asked, until it is removed", async () => {
  fails("m", Code.notFound, /known are fixed$/);
  await put("m");
  await waitFor(isKnown("m"));
  deepEqual(catalog.all.map(({ name }) => name), ["fixed", "m"]);
  await bus.removeModel("m");
  await waitFor(() => !isKnown("m")());
  fails("m", Code.notFound, /known are fixed$/);
});

test("a model whose file cannot be read says why, and is tried again", async () => {
  const failing = Promise.withResolvers<void>();
  let attempts = 0;
  load = () => {
    if (++attempts === 1) return Promise.reject(new Error("no such file"));
    return failing.promise;
  };
  await put("m");
  await waitFor(() => attempts === 2);
  fails("m", Code.unavailable, /"m" yet: no such file/);
  equal(catalog.all.length, 1);
  failing.resolve();
  await waitFor(isKnown("m"));
});

test("a model on its way says how far it is", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  load = (_, onProgress) => {
    onProgress(0.42);
    return promise;
  };
  await put("m");
  await waitFor(() => loads.length === 1);
  fails("m", Code.unavailable, /its file is 42 % here/);
  resolve();
  await waitFor(isKnown("m"));
});

test("another file is loaded, other aliases are only taken over", async () => {
  await put("m", "/a", ["x"]);
  await waitFor(() => catalogName("x") === "m");
  await put("m", "/a", ["y"]);
  await waitFor(() => catalogName("y") === "m");
  equal(catalogName("x"), undefined);
  equal(loads.length, 1);
  await put("m", "/b", ["y"]);
  await waitFor(() => loads.length === 2);
  deepEqual(loads[1].source, { path: "/b" });
  equal(loads[0].signal.aborted, true);
});

test("a model of the start stays as it is, and goes before aliases", async () => {
  await put("fixed", "/other");
  await put("b", "/b", ["fixed", "shared"]);
  await put("a", "/a", ["shared", "b"]);
  await waitFor(isKnown("a"));
  await waitFor(isKnown("b"));
  equal(loads.some(({ name }) => name === "fixed"), false);
  equal(catalogName("fixed"), "fixed");
  equal(catalogName("b"), "b");
  equal(catalogName("shared"), "a");
  await bus.removeModel("fixed");
  await bus.removeModel("a");
  await waitFor(() => catalogName("shared") === "b");
  equal(catalogName("fixed"), "fixed");
});

test("a model that is removed while it loads does not come back", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  load = () => promise;
  await put("m");
  await waitFor(() => loads.length === 1);
  await bus.removeModel("m");
  await waitFor(() => loads[0].signal.aborted);
  resolve();
  await new Promise(setImmediate);
  fails("m", Code.notFound, /known are fixed$/);
});

test("an entry that cannot be used is told to who asks, and stops nothing", async () => {
  const source = { url: "ftp://host/m.gguf", sha256: "0".repeat(64) };
  await bus.putModel({ model: "bad", source });
  await put("m");
  await waitFor(isKnown("m"));
  fails("bad", Code.unavailable, /source.url must be an http or https URL/);
  await put("bad");
  await waitFor(isKnown("bad"));
});

function catalogName(name: string): string | undefined {
  try {
    return catalog.resolve(name).name;
  } catch {
    return undefined;
  }
}
