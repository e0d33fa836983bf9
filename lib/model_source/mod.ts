/** Gets a model's file onto this machine: from a path, or once per machine from a URL. */
export { modelCacheDefault } from "./cache_folder.ts";
export { fetchModel, type FetchModelOptions } from "./fetch_model.ts";
export { parseSource, type RawSource } from "./parse_source.ts";
export * from "./types.ts";
