import { equal, ok } from "node:assert/strict";
import { join } from "node:path";
import { test } from "vitest";
import { DecodeService } from "../../proto/gen/quetzal/v1/decode.ts";
import { readConfig } from "../config/mod.ts";
import { referenceNative } from "../engine/testing/reference_native.ts";
import { writeTinyModel } from "../engine/testing/tiny_model.ts";
import { tempDir } from "../testing/mod.ts";
import { readWorkerConfig } from "./config.ts";
import { type RoleParts, runWorker } from "./run_worker.ts";
import { servedModel } from "./served_models.ts";
import { FakeEngine } from "./testing/fake_engine.ts";

const never = new Promise<never>(() => {});

function configOf(models = "") {
  const env = {
    QUETZAL_MODELS: models,
    QUETZAL_DECODE_PORT: "0",
    QUETZAL_NATS_URL: "nats://127.0.0.1:1",
    QUETZAL_LOG_LEVEL: "silent",
  };
  const options = { what: "a worker", env, prefix: "QUETZAL_DECODE_" };
  return readConfig(
    options,
    (reader) => readWorkerConfig(reader, { role: "decode", portDefault: 0 }),
  );
}

/** A role that serves nothing. */
const service = {
  name: "quetzal.v1.Decode",
  definition: DecodeService,
  implementation: {},
};

test("a worker that lost its GPU drains and ends with 1", async () => {
  class Lost extends FakeEngine {
    device() {
      const fault = "the GPU is lost";
      return { name: "GPU", memoryBytes: 1, bytesPerS: undefined, fault };
    }
  }
  let parts: RoleParts | undefined;
  const exitCode = await runWorker({
    role: "decode",
    config: configOf(),
    native: referenceNative,
    stop: never,
    build(given) {
      parts = given;
      given.models.add(servedModel("m", new Lost(), []));
      return { service };
    },
  });
  equal(exitCode, 1);
  ok(parts?.admission.draining);
});

test("a stop signal does not wait for a model that is being loaded", async () => {
  await using folder = await tempDir("worker");
  const path = join(folder.path, "tiny.gguf");
  writeTinyModel(path);
  const { promise: stop, resolve } = Promise.withResolvers<string>();
  const exitCode = await runWorker({
    role: "decode",
    config: configOf(`m=${path}`),
    native: {
      ...referenceNative,
      loadModel() {
        resolve("SIGTERM");
        return never;
      },
    },
    stop,
    build: () => ({ service }),
  });
  equal(exitCode, 0);
});
