import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "vitest";
import { parseConfig } from "./config.ts";

test("parseConfig() injects no faults unless told to", () => {
  const config = parseConfig({ QUETZAL_MODELS: "demo=a.gguf" });
  equal(config.kvFaults.size, 0);
  equal(config.port, 50_061);
  deepEqual(
    parseConfig({
      QUETZAL_MODELS: "demo=a.gguf",
      QUETZAL_FAULT_KV: "stall:0.25",
    })
      .kvFaults,
    new Map([["stall", 0.25]]),
  );
});

test("parseConfig() names a fault that does not exist", () => {
  throws(
    () =>
      parseConfig({
        QUETZAL_MODELS: "demo=a.gguf",
        QUETZAL_FAULT_KV: "typo:1",
      }),
    /Cannot start the prefill worker: QUETZAL_FAULT_KV: fault "typo" is unknown, known are corrupt/,
  );
});
