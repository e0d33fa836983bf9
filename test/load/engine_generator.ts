import { loadNative } from "../../kernels/addon/mod.ts";
import { createEngine } from "../../lib/engine/mod.ts";
import { greedy } from "../../lib/engine/testing/sequences.ts";
import type { Engine } from "../../lib/engine/types.ts";
import type { Generator } from "./generator.ts";

export async function engineGenerator(
  path: string,
  options: { threads: number; runningMax?: number; kvBlocks?: number },
): Promise<Generator & { engine: Engine }> {
  const engine = await createEngine({ path, native: loadNative(), ...options });
  let requests = 0;
  return {
    engine,
    async *generate(promptIds, maxTokens) {
      const spec = {
        requestId: `bench-${requests++}`,
        promptIds,
        emittedIds: new Int32Array(),
        sampling: greedy,
        maxTokens,
      };
      const { signal } = new AbortController();
      for await (const event of engine.generate(spec, { signal })) {
        if (event.kind === "tokens") yield event.tokens.length;
      }
    },
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  };
}
