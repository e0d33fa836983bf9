import { equal, ok, throws } from "node:assert/strict";
import { test } from "vitest";
import { parseConfig } from "./config.ts";

test("parseConfig() needs nothing on loopback, and captures no content", () => {
  const config = parseConfig({});
  equal(config.port, 8090);
  equal(config.token, undefined);
  equal(config.captureContent, false);
});

for (
  const host of ["0.0.0.0", "::", "10.0.0.1", "dashboard.mesh", "127.evil"]
) {
  test(`parseConfig() asks for a token on ${host}`, () => {
    const env = { QUETZAL_DASHBOARD_HOST: host };
    throws(() => parseConfig(env), /QUETZAL_DASHBOARD_TOKEN is missing/);
    ok(parseConfig({ ...env, QUETZAL_DASHBOARD_TOKEN: "x".repeat(16) }));
    ok(parseConfig({ ...env, QUETZAL_DASHBOARD_OPEN: "true" }));
  });
}

test("parseConfig() reports every fault at once, and no secret", () => {
  const env = {
    QUETZAL_DASHBOARD_PORT: "http",
    QUETZAL_DASHBOARD_TOKEN: "hunter2",
    QUETZAL_DASHBOARD_RETENTON: "7d",
    QUETZAL_NATS_URL: "http://user:hunter3@x",
  };
  throws(() => parseConfig(env), (error: Error) => {
    for (
      const part of [
        'QUETZAL_DASHBOARD_PORT is "http"',
        "QUETZAL_DASHBOARD_TOKEN is too short",
        "QUETZAL_DASHBOARD_RETENTON is unknown",
        "QUETZAL_NATS_URL is not usable",
      ]
    ) ok(error.message.includes(part), `${part} in ${error.message}`);
    ok(!/hunter/.test(error.message), error.message);
    return true;
  });
});
