/** Gauges of the GPU under each model; a worker on the CPU has none of them. */
import type { DeviceStatus } from "../engine/types.ts";
import { gauge, type Registry } from "../telemetry/registry.ts";

export function deviceGauges(
  registry: Registry,
): (model: string, device: DeviceStatus | undefined) => void {
  const labelNames = ["model_name", "device"];
  const memory = gauge(registry, [
    "device_memory_bytes",
    "Memory of the GPU that runs the model",
  ], { labelNames });
  const bandwidth = gauge(registry, [
    "device_read_bytes_per_second",
    "Weights and KV read by the last step over the time of its kernels",
  ], { labelNames });
  const healthy = gauge(registry, [
    "device_healthy",
    "1 while the GPU runs steps, 0 when it is lost and the worker has to go",
  ], { labelNames });
  return (model, device) => {
    if (!device) return;
    const { name, memoryBytes, bytesPerS, fault } = device;
    memory.labels(model, name).set(memoryBytes);
    healthy.labels(model, name).set(fault ? 0 : 1);
    if (bytesPerS !== undefined) bandwidth.labels(model, name).set(bytesPerS);
  };
}
