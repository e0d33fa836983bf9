import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "vitest";
import { Code } from "../errors/mesh_error.ts";
import { chooseBackend, deviceKvBytes, deviceModelBytes } from "./backend.ts";
import type { CudaDevice, Native } from "./native.ts";
import type { ModelFile } from "./model_file.ts";

const device: CudaDevice = {
  name: "GPU",
  memoryBytes: 80e9,
  freeBytes: 70e9,
  major: 9,
  minor: 0,
};

function nativeWith(cuda: Native["cuda"]): Native {
  return {
    isasSupported: ["ref", "avx2"],
    crc32c: () => 0,
    loadModel: () => Promise.reject(new Error("not needed")),
    ...(cuda && { cuda }),
  };
}

const withGpu = nativeWith(() => device);
const without = nativeWith(() => ({ missing: "Cannot use CUDA: no libcuda" }));

const cases = [
  { name: "auto takes a GPU that is there", native: withGpu, target: "cuda" },
  { name: "auto without a GPU is the CPU", native: without, target: "avx2" },
  {
    name: "auto is the CPU when an instruction set is named",
    native: withGpu,
    isa: "ref",
    target: "ref",
  },
  {
    name: "cpu leaves the GPU alone",
    native: withGpu,
    backend: "cpu" as const,
    target: "avx2",
  },
  {
    name: "cuda takes the GPU",
    native: withGpu,
    backend: "cuda" as const,
    target: "cuda",
  },
  {
    name: "native code that knows no GPU runs on the CPU",
    native: nativeWith(undefined),
    target: "avx2",
  },
];

test.each(cases)("$name", ({ native, backend, isa, target }) => {
  const chosen = chooseBackend({ backend, isa, kvType: "f16" }, native);
  equal(chosen.target, target);
  deepEqual(chosen.device, target === "cuda" ? device : undefined);
});

const onCuda = { backend: "cuda", kvType: "f16" } as const;

test("cuda without a GPU says what is missing", () => {
  throws(
    () => chooseBackend({ ...onCuda, isa: undefined }, without),
    /Cannot use CUDA: no libcuda/,
  );
});

test("an instruction set with cuda is refused", () => {
  throws(
    () => chooseBackend({ ...onCuda, isa: "avx2" }, withGpu),
    /isa: needs backend cpu, found avx2 with cuda/,
  );
});

test("KV blocks get what weights and activations leave", () => {
  const model = {
    graph: {
      weights: [{ bytes: 5e9 }, { bytes: 1e9 }],
      program: { tensors: Int32Array.of(0, 4096, 1, 128_000) },
    },
  } as unknown as ModelFile;
  const limits = { rowsMax: 256, runningMax: 64 };
  const bytes = deviceKvBytes(device, model, limits);
  const most = device.freeBytes - 6e9;
  equal(bytes > 0.85 * most && bytes < most, true);
  equal(deviceKvBytes({ ...device, freeBytes: 6e9 }, model, limits), 0);
});

test("KV blocks leave a margin of the device, however little of it is free", () => {
  const model = {
    graph: { weights: [], program: { tensors: Int32Array.of(0, 64) } },
  } as unknown as ModelFile;
  const limits = { rowsMax: 8, runningMax: 8 };
  const margin = device.memoryBytes / 16;
  for (const freeBytes of [80e9, 20e9, 6e9, 1e9]) {
    const found = deviceKvBytes({ ...device, freeBytes }, model, limits);
    equal(found <= Math.max(0, freeBytes - margin), true);
  }
  equal(deviceModelBytes(device), 75e9);
});

test.each(["auto", "cuda"] as const)(
  "KV in q8_0 on a GPU is refused, with backend %s",
  (backend) => {
    throws(
      () => chooseBackend({ backend, isa: undefined, kvType: "q8_0" }, withGpu),
      {
        code: Code.failedPrecondition,
        message: "Cannot create an engine: kvType: needs f16 on a GPU (GPU), " +
          "found q8_0; backend cpu has it",
      },
    );
    const onCpu = { backend: "cpu", isa: undefined, kvType: "q8_0" } as const;
    equal(chooseBackend(onCpu, withGpu).target, "avx2");
  },
);
