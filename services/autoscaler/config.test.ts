import { equal, match, throws } from "node:assert/strict";
import { test } from "vitest";
import { parseConfig } from "./config.ts";

const nowhere = () => undefined;

test("parseConfig() takes the namespace of the pod, and a setting instead", () => {
  equal(parseConfig({}, () => "mesh").namespace, "mesh");
  const env = { QUETZAL_AUTOSCALER_NAMESPACE: "other" };
  equal(parseConfig(env, () => "mesh").namespace, "other");
});

test("parseConfig() tells workers what it knows itself, unless set otherwise", () => {
  const env = {
    QUETZAL_AUTOSCALER_NAMESPACE: "mesh",
    QUETZAL_NATS_URL: "nats://bus:4222",
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://otel:4318",
  };
  equal(parseConfig(env).workerNatsUrl, "nats://bus:4222");
  equal(parseConfig(env).workerOtlpEndpoint, "http://otel:4318");
  const other = { ...env, QUETZAL_AUTOSCALER_WORKER_NATS_URL: "tls://b:1" };
  equal(parseConfig(other).workerNatsUrl, "tls://b:1");
});

test("two starts of one pod are two identities", () => {
  const env = { QUETZAL_AUTOSCALER_NAMESPACE: "m", QUETZAL_POD_NAME: "a" };
  match(parseConfig(env).identity, /^a_[0-9a-f]{8}$/);
  equal(parseConfig(env).identity === parseConfig(env).identity, false);
});

test("parseConfig() reports every fault at once, and no password", () => {
  throws(() =>
    parseConfig({
      QUETZAL_AUTOSCALER_NAMESPACE: "Not_A_Name",
      QUETZAL_AUTOSCALER_TICK: "never",
      QUETZAL_AUTOSCALER_TICKS: "1",
      QUETZAL_NATS_URL: "http://u:hunter2@bus",
    }, nowhere), (error: Error) => {
    for (
      const part of [
        'QUETZAL_AUTOSCALER_NAMESPACE is "Not_A_Name"',
        "QUETZAL_AUTOSCALER_TICK is",
        "QUETZAL_AUTOSCALER_TICKS is unknown",
        "QUETZAL_NATS_URL is not usable",
      ]
    ) match(error.message, new RegExp(part));
    equal(error.message.includes("hunter2"), false);
    return true;
  });
});

test("outside a pod the namespace has to be named", () => {
  throws(() => parseConfig({}, nowhere), /QUETZAL_AUTOSCALER_NAMESPACE is ""/);
});
