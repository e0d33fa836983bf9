import { Code, MeshError } from "../errors/mesh_error.ts";
import { isUrlSource, type ModelSource } from "./types.ts";

export interface FetchModelOptions {
  readonly folder: string;
  readonly bytesMax: number;
  readonly signal: AbortSignal;
  readonly onProgress: (share: number) => void;
}

/** Answers the path of the source's file on this machine. */
// deno-lint-ignore require-await
export async function fetchModel(
  source: ModelSource,
  _options: FetchModelOptions,
): Promise<string> {
  if (!isUrlSource(source)) return source.path;
  throw new MeshError(Code.unimplemented, "Cannot download models yet");
}
