/** Model families by the name that GGUF files use. */
import { Code, MeshError } from "../../errors/mesh_error.ts";
import type { GgufFile } from "../../gguf/mod.ts";
import type { ModelGraph } from "./graph.ts";
import { buildLlama } from "./llama.ts";

export type { ModelGraph } from "./graph.ts";

const builders: Readonly<Record<string, (file: GgufFile) => ModelGraph>> = {
  llama: buildLlama,
};

/** Records the program of the file's architecture. */
export function buildGraph(file: GgufFile): ModelGraph {
  const name = file.metadata.string("general.architecture");
  if (Object.hasOwn(builders, name)) return builders[name](file);
  const known = Object.keys(builders).join(", ");
  throw new MeshError(
    Code.unimplemented,
    `Cannot load model "${file.path}": key "general.architecture": ` +
      `needs one of ${known}, found ${name}`,
  );
}
