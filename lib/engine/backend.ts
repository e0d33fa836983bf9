/** What a model runs on: the CPU, or a GPU where one is there. */
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { CudaDevice, KvType, Native, Target } from "./native.ts";
import { chooseIsa } from "./engine_options.ts";
import type { ModelFile } from "./model_file.ts";

/** `auto` takes a GPU that is there, unless an instruction set was asked for. */
export const backends = ["cpu", "cuda", "auto"] as const;
export type Backend = typeof backends[number];

export interface ChosenBackend {
  readonly target: Target;
  /** Absent on the CPU. */
  readonly device: CudaDevice | undefined;
}

/** Throws a `MeshError` that says what is missing for what was asked for. */
export function chooseBackend(
  { backend, isa, kvType }: {
    readonly backend: Backend | undefined;
    readonly isa: string | undefined;
    readonly kvType: KvType;
  },
  native: Native,
): ChosenBackend {
  const onCpu = () => ({ target: chooseIsa(isa, native), device: undefined });
  if (backend === "cuda" && isa !== undefined) {
    throw new MeshError(
      Code.invalidArgument,
      `Cannot create an engine: isa: needs backend cpu, found ${isa} with cuda`,
    );
  }
  if (backend === "cpu" || isa !== undefined) return onCpu();
  const probe = native.cuda?.() ??
    { missing: "Cannot use CUDA: this native code was built without it" };
  if (probe.missing === undefined) {
    requireOnGpu(kvType, probe);
    return { target: "cuda", device: probe };
  }
  if (backend !== "cuda") return onCpu();
  throw new MeshError(Code.failedPrecondition, probe.missing);
}

/** `auto` does not fall back to the CPU either: that would be a surprise of another kind. */
function requireOnGpu(kvType: KvType, { name }: CudaDevice): void {
  if (kvType === "f16") return;
  throw new MeshError(
    Code.failedPrecondition,
    `Cannot create an engine: kvType: needs f16 on a GPU (${name}), found ${kvType}; ` +
      "backend cpu has it",
  );
}

/**
 * Share of a device's memory that weights and KV leave free, for graphs and the driver:
 * KV without room moves to the host and slows every step. As cuda_memory.h has it.
 */
const marginShare = 1 / 16;
/** Splits of attention, prepared inputs, results. */
const workBytes = 256 * 2 ** 20;

/** What models on a device may take together. */
export function deviceModelBytes({ memoryBytes }: CudaDevice): number {
  return Math.floor(memoryBytes * (1 - marginShare));
}

/** What is left for KV blocks when weights and activations have their place. */
export function deviceKvBytes(
  { freeBytes, memoryBytes }: CudaDevice,
  { graph }: ModelFile,
  { rowsMax, runningMax }: { rowsMax: number; runningMax: number },
): number {
  const weightBytes = graph.weights.reduce((sum, { bytes }) => sum + bytes, 0);
  let activationBytes = workBytes;
  const { tensors } = graph.program;
  for (let i = 0; i < tensors.length; i += 2) {
    activationBytes += 4 * tensors[i + 1] *
      (tensors[i] === 0 ? rowsMax : runningMax);
  }
  // A few times the widest input, in the forms that products read.
  const left = freeBytes - memoryBytes * marginShare - weightBytes -
    1.5 * activationBytes;
  return Math.max(0, Math.floor(left));
}
