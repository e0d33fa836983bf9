/** A mesh whose workers run on the CUDA backend, over the emulated driver. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { beforeAll, test } from "vitest";
import { buildEmulation } from "../../kernels/cuda/build.ts";
import { controlOf } from "./control.ts";
import { startMesh } from "./start_mesh.ts";
import { streamIds } from "./stream_ids.ts";
import { demoPair, onCuda } from "../../infra/gpu/demo_pair.ts";

let library: string;
beforeAll(async () => {
  ({ library } = await buildEmulation());
}, 600_000);

test(
  "the demo pair's answers over gRPC are those of a mesh on the CPU",
  async () => {
    const idsWith = async (env: Record<string, string>) => {
      await using mesh = await startMesh({ models: demoPair(), env });
      const ask = (model: string, content: string) =>
        streamIds(mesh.grpcAddress, { model, content, maxTokens: 4 });
      const ids = [
        await ask("quetzal-demo", "What is the KV cache?"),
        await ask("quetzal-draft", "Name five fruits."),
      ];
      await using control = await controlOf(mesh, 2);
      const { memoryBytesTotal } = await control.status("decode-0");
      return { ids, memoryBytesTotal, log: mesh.process("decode-0").log() };
    };
    const cpu = await idsWith({ QUETZAL_BACKEND: "cpu" });
    const cuda = await idsWith(onCuda({ library, fatbin: library }));
    equal(cuda.ids.every((ids) => ids.length > 0), true);
    deepEqual(cuda.ids, cpu.ids);
    // The budget is the emulated device's 2 GiB, less its margin, and not this machine's.
    equal(cuda.memoryBytesTotal, 2n ** 31n / 16n * 15n);
    ok(!/"level":(50|60)|fatal/i.test(cuda.log), cuda.log);
  },
  120_000,
);
