import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "vitest";
import {
  type Env,
  natsUrlField,
  readConfig,
  sharedSecrets,
  telemetryFields,
} from "./mod.ts";

const read = (env: Env) =>
  readConfig({ what: "a test", env, secrets: sharedSecrets }, telemetryFields);

test("telemetryFields() records nothing unless told where to", () => {
  deepEqual(read({}), {
    endpoint: undefined,
    headers: {},
    sampleRatio: 1,
    captureContent: false,
    logLevel: "info",
    logPretty: false,
  });
});

test("telemetryFields() reads OpenTelemetry's keys", () => {
  const config = read({
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20a=b, x-org=1",
    OTEL_TRACES_SAMPLER_ARG: "0.25",
  });
  equal(config.endpoint, "http://collector:4318");
  deepEqual(config.headers, { authorization: "Bearer a=b", "x-org": "1" });
  equal(config.sampleRatio, 0.25);
});

test("telemetryFields() obeys OTEL_SDK_DISABLED", () => {
  const config = read({
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
    OTEL_SDK_DISABLED: "true",
  });
  equal(config.endpoint, undefined);
});

test("telemetryFields() keeps header values out of errors", () => {
  for (const headers of ["secret", "a=%", "=secret"]) {
    throws(() => read({ OTEL_EXPORTER_OTLP_HEADERS: headers }), {
      message:
        "Cannot start a test: OTEL_EXPORTER_OTLP_HEADERS is not usable, " +
        "expected key=value,…",
    });
  }
});

test("natsUrlField() is required", () => {
  throws(() => readConfig({ what: "a test", env: {} }, natsUrlField), {
    message: "Cannot start a test: NATS_URL is missing",
  });
});
