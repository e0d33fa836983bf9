import { equal } from "node:assert/strict";
import { totalmem } from "node:os";
import { test } from "vitest";
import type { CudaProbe, Native } from "../engine/native.ts";
import { defaultModelBytes } from "./memory_budget.ts";

function nativeWith(probe: CudaProbe): Native {
  return {
    isasSupported: ["ref"],
    crc32c: () => 0,
    loadModel: () => Promise.reject(new Error("not needed")),
    cuda: () => probe,
  };
}

const gpu = nativeWith({
  name: "GPU",
  memoryBytes: 160e9,
  freeBytes: 150e9,
  major: 9,
  minor: 0,
});
const noGpu = nativeWith({ missing: "Cannot use CUDA: no libcuda" });
const onDevice = 150e9;

test.each(
  [
    { name: "auto with a GPU: the device's", native: gpu, backend: "auto" },
    { name: "cuda with a GPU: the device's", native: gpu, backend: "cuda" },
    { name: "cpu: the host's", native: gpu, backend: "cpu", isHost: true },
    {
      name: "auto without: the host's",
      native: noGpu,
      backend: "auto",
      isHost: true,
    },
    {
      name: "an isa: the host's",
      native: gpu,
      backend: "auto",
      isa: "ref",
      isHost: true,
    },
  ] as const,
)("the default budget is memory of $name", (each) => {
  const { native, backend } = each;
  const isa = "isa" in each ? each.isa : undefined;
  const found = defaultModelBytes({ backend, isa }, native);
  if ("isHost" in each) equal(found <= 0.8 * totalmem(), true);
  else equal(found, onDevice);
});
