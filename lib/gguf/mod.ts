/** GGUF model files: reading what they declare, writing small ones. */
export {
  type GgmlType,
  ggmlTypeIds,
  ggmlTypeName,
  ggmlTypes,
  tensorBytes,
} from "./ggml_types.ts";
export {
  dequantize,
  dequantizedTypeIds,
  dequantizedTypes,
} from "./dequantize.ts";
export { createMetadata } from "./metadata.ts";
export { quantizeRows } from "./quantize_rows.ts";
export { randomBlocks, RandomWords } from "./random_blocks.ts";
export { readGguf } from "./reader.ts";
export type * from "./types.ts";
export {
  gguf,
  ggufHeader,
  writeGguf,
  type WriteGgufOptions,
  type WriteTensor,
  type WriteValue,
} from "./writer.ts";
