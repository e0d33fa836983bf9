import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "vitest";
import { parseConfig } from "./config.ts";

test("parseConfig() fills defaults", () => {
  const config = parseConfig({
    QUETZAL_MODELS: "demo=models/a.gguf, b = c=d.gguf",
  });
  deepEqual(config.models, [
    { name: "demo", path: "models/a.gguf" },
    { name: "b", path: "c=d.gguf" },
  ]);
  equal(config.port, 50_062);
  equal(config.host, "127.0.0.1");
  equal(config.kvStallMs, 2_000);
  equal(config.drainMs, 20_000);
  equal(config.engine.kvBlocks, undefined);
  equal(config.engine.kvType, "f16");
  equal(config.engine.packedCache, undefined);
});

test("parseConfig() bounds the cache of packed weights", () => {
  const packed = (env: Record<string, string>) =>
    parseConfig({ QUETZAL_PACKED_CACHE: "/var/cache/packed", ...env })
      .engine.packedCache;
  deepEqual(packed({}), { folder: "/var/cache/packed", bytesMax: 2 ** 36 });
  equal(packed({ QUETZAL_PACKED_CACHE_MAX: "20GiB" })?.bytesMax, 20 * 2 ** 30);
  throws(
    () => packed({ QUETZAL_PACKED_CACHE_MAX: "much" }),
    /QUETZAL_PACKED_CACHE_MAX is "much"/,
  );
});

test("parseConfig() reports every fault at once", () => {
  throws(() =>
    parseConfig({
      QUETZAL_DECODE_PORT: "99999",
      QUETZAL_MODELS: "a=x,a=y,z",
      QUETZAL_ISA: "mmx",
      QUETZAL_KV_TYPE: "q4_0",
      QUETZAL_WORKER_ID: "a.b",
      QUETZAL_DECODE_PROT: "1",
    }), {
    message: "Cannot start the decode worker: " +
      'QUETZAL_WORKER_ID is "a.b", expected letters, digits, "-" and "_", up to 128; ' +
      'QUETZAL_DECODE_PORT is "99999", expected 0..65535; ' +
      'QUETZAL_MODELS names "a" twice; ' +
      'QUETZAL_MODELS has "z", expected name=path; ' +
      'QUETZAL_ISA is "mmx", expected one of ref, avx2, avx512, amx; ' +
      'QUETZAL_KV_TYPE is "q4_0", expected one of f16, q8_0; ' +
      "QUETZAL_DECODE_PROT is unknown, known are QUETZAL_DECODE_PORT, " +
      "QUETZAL_DECODE_REMOTE_TOKENS_MIN, QUETZAL_DECODE_SLOW_READER, " +
      "QUETZAL_DECODE_TOKEN_WAIT, QUETZAL_DECODE_TOKEN_WAIT_BATCH",
  });
});
