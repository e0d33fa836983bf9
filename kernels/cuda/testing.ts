/** The CUDA backend on the emulated driver, for tests. */
import process from "node:process";
import type { Native } from "../../lib/engine/native.ts";
import { loadNative } from "../addon/mod.ts";
import { buildKernels } from "../build.ts";
import { buildEmulation } from "./build.ts";

/** Native code whose libcuda is ours; of this process, from its first use on. */
export async function emulatedNative(): Promise<Native> {
  const { library } = await buildEmulation();
  if (!process.env.QUETZAL_ADDON) await buildKernels();
  process.env.QUETZAL_LIBCUDA = library;
  // The emulated driver runs kernels of its own and takes any file for a fat binary.
  process.env.QUETZAL_CUDA_KERNELS = library;
  return loadNative();
}
