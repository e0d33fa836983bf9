/** Small random models of the llama family, written as GGUF files. */
import {
  gguf,
  quantizeRows,
  writeGguf,
  type WriteTensor,
  type WriteValue,
} from "../../gguf/mod.ts";

export interface TinyModelOptions {
  /** ggml type id of the matrices; default 0 (F32). */
  readonly type?: number;
  readonly layers?: number;
  /** A multiple of 32; default 64. */
  readonly width?: number;
  readonly feedForward?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly headDim?: number;
  readonly vocabSize?: number;
  readonly contextLength?: number;
  readonly biases?: boolean;
  readonly ropeDivisors?: boolean;
  readonly tied?: boolean;
  readonly seed?: number;
  /** Added to, or put in place of, the usual keys. */
  readonly metadata?: Readonly<Record<string, WriteValue>>;
  /** Changes the list of tensors before it is written. */
  readonly change?: (tensors: WriteTensor[]) => WriteTensor[];
}

export function writeTinyModel(
  path: string,
  options: TinyModelOptions = {},
): void {
  const shape = {
    layers: 2,
    width: 64,
    feedForward: 96,
    heads: 4,
    kvHeads: 2,
    headDim: 16,
    vocabSize: 97,
    contextLength: 256,
    ...options,
  };
  const random = gaussian(options.seed ?? 1);
  const tensors: WriteTensor[] = [];
  const add = (name: string, dims: number[], spread: number, base = 0) => {
    const values = Float32Array.from(
      { length: dims.reduce((a, b) => a * b) },
      () => base + spread * random(),
    );
    const type = dims.length === 1 ? 0 : options.type ?? 0;
    tensors.push({ name, type, dims, data: quantizeRows(type, values) });
  };
  const matrix = (name: string, cols: number, rows: number) => {
    add(`${name}.weight`, [cols, rows], 1.5 / Math.sqrt(cols));
    if (options.biases && name.startsWith("blk")) {
      add(`${name}.bias`, [rows], 0.2);
    }
  };
  const { width, heads, kvHeads, headDim, feedForward, vocabSize } = shape;
  add("token_embd.weight", [width, vocabSize], 1);
  for (let layer = 0; layer < shape.layers; layer++) {
    const block = `blk.${layer}`;
    add(`${block}.attn_norm.weight`, [width], 0.1, 1);
    matrix(`${block}.attn_q`, width, heads * headDim);
    matrix(`${block}.attn_k`, width, kvHeads * headDim);
    matrix(`${block}.attn_v`, width, kvHeads * headDim);
    matrix(`${block}.attn_output`, heads * headDim, width);
    add(`${block}.ffn_norm.weight`, [width], 0.1, 1);
    matrix(`${block}.ffn_gate`, width, feedForward);
    matrix(`${block}.ffn_up`, width, feedForward);
    matrix(`${block}.ffn_down`, feedForward, width);
  }
  add("output_norm.weight", [width], 0.1, 1);
  if (!options.tied) matrix("output", width, vocabSize);
  if (options.ropeDivisors) add("rope_freqs.weight", [headDim / 2], 0.5, 3);
  writeGguf(path, {
    metadata: { ...usualKeys(shape), ...options.metadata },
    tensors: options.change?.(tensors) ?? tensors,
  });
}

function usualKeys(
  shape: Required<
    Pick<
      TinyModelOptions,
      | "layers"
      | "width"
      | "feedForward"
      | "heads"
      | "kvHeads"
      | "headDim"
      | "contextLength"
    >
  >,
): Record<string, WriteValue> {
  return {
    "general.architecture": gguf.string("llama"),
    "llama.block_count": gguf.u32(shape.layers),
    "llama.context_length": gguf.u32(shape.contextLength),
    "llama.embedding_length": gguf.u32(shape.width),
    "llama.feed_forward_length": gguf.u32(shape.feedForward),
    "llama.attention.head_count": gguf.u32(shape.heads),
    "llama.attention.head_count_kv": gguf.u32(shape.kvHeads),
    "llama.attention.key_length": gguf.u32(shape.headDim),
    "llama.attention.value_length": gguf.u32(shape.headDim),
    "llama.attention.layer_norm_rms_epsilon": gguf.f32(1e-5),
    "llama.rope.dimension_count": gguf.u32(shape.headDim),
    "llama.rope.freq_base": gguf.f32(10000),
  };
}

/** Normally distributed numbers, the same for the same seed. */
function gaussian(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return () =>
    Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
