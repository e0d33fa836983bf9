import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "vitest";
import { parseConfig } from "./config.ts";

test("parseConfig() needs the models and fills everything else", () => {
  const config = parseConfig({ QUETZAL_MODELS: "a=/m/a.gguf, b=/m/b=1.gguf" });
  deepEqual(config.models, [
    { name: "a", path: "/m/a.gguf" },
    { name: "b", path: "/m/b=1.gguf" },
  ]);
  deepEqual([config.host, config.httpPort, config.grpcPort], [
    "127.0.0.1",
    8080,
    50_051,
  ]);
  deepEqual([config.holdMs, config.policy], [30_000, "prefix-affinity"]);
});

test("parseConfig() reports every fault at once", () => {
  throws(() =>
    parseConfig({
      QUETZAL_MODELS: "a=/m/a.gguf,a=/m/b.gguf,c",
      QUETZAL_HTTP_PORT: "http",
      QUETZAL_ROUTER_POLICY: "random",
      QUETZAL_ROUTER_HOLDMS: "5",
    }), (error: Error) => {
    for (
      const part of [
        'QUETZAL_MODELS names "a" twice',
        'QUETZAL_MODELS has "c", expected name=path',
        'QUETZAL_HTTP_PORT is "http", expected 0..65535',
        'QUETZAL_ROUTER_POLICY is "random", expected one of least-load, prefix-affinity',
        "QUETZAL_ROUTER_HOLDMS is unknown",
      ]
    ) {
      equal(error.message.includes(part), true, `${part} in ${error.message}`);
    }
    return true;
  });
});
