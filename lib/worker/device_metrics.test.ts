import { equal, match } from "node:assert/strict";
import { test } from "vitest";
import { createRegistry } from "../telemetry/registry.ts";
import { deviceGauges } from "./device_metrics.ts";
import { faultOf } from "./run_worker.ts";
import type { Worker } from "./worker.ts";

const device = { name: "GPU", memoryBytes: 100, bytesPerS: 42 };

test("metrics name the device, its memory and what the last step reached", async () => {
  const registry = createRegistry();
  const read = deviceGauges(registry);
  read("m", undefined);
  read("m", { ...device, fault: undefined });
  const text = await registry.metrics();
  const labels = String.raw`\{model_name="m",device="GPU"\}`;
  match(text, new RegExp(`quetzal:device_memory_bytes${labels} 100`));
  match(text, new RegExp(`quetzal:device_read_bytes_per_second${labels} 42`));
  match(text, new RegExp(`quetzal:device_healthy${labels} 1`));
  read("m", { ...device, fault: "lost" });
  match(
    await registry.metrics(),
    new RegExp(`quetzal:device_healthy${labels} 0`),
  );
});

test("a worker's fault is that of the first engine that has one", () => {
  const models = [
    { engine: {} },
    { engine: { device: () => ({ ...device, fault: undefined }) } },
    { engine: { device: () => ({ ...device, fault: "the GPU is lost" }) } },
  ];
  const worker = (count: number) =>
    ({ models: models.slice(0, count) }) as unknown as Pick<Worker, "models">;
  equal(faultOf(worker(2)), undefined);
  equal(faultOf(worker(3)), "the GPU is lost");
});
