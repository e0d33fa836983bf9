/** GGUF model files: reading what they declare, writing small ones. */
export {
  type GgmlType,
  ggmlTypeIds,
  ggmlTypeName,
  ggmlTypes,
  tensorBytes,
} from "./ggml_types.ts";
export { createMetadata } from "./metadata.ts";
export { readGguf } from "./reader.ts";
export type * from "./types.ts";
