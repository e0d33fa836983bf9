/**
 * Models of random weights in the shape of real ones, for benchmarks and parity tests
 * that need a file of every type: llama graphs, well scaled, with a tokenizer that
 * both sides accept. Weights depend on the seed and the tensor alone.
 */
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import {
  ggmlTypeIds,
  ggmlTypes,
  gguf,
  randomBlocks,
  RandomWords,
  writeGguf,
  type WriteTensor,
} from "../../lib/gguf/mod.ts";

interface Shape {
  readonly layers: number;
  readonly width: number;
  readonly feedForward: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocab: number;
  readonly contextLength: number;
}

export const shapes = {
  /** For parity: two layers, every row a multiple of 256. */
  tiny: {
    layers: 2,
    width: 256,
    feedForward: 768,
    heads: 8,
    kvHeads: 2,
    headDim: 32,
    vocab: 4096,
    contextLength: 2048,
  },
  /** Llama-3.2-1B: 1.24 billion weights, token table tied. */
  "1b": {
    layers: 16,
    width: 2048,
    feedForward: 8192,
    heads: 32,
    kvHeads: 8,
    headDim: 64,
    vocab: 128_256,
    contextLength: 16_384,
  },
} satisfies Record<string, Shape>;
export type ShapeName = keyof typeof shapes;

/** A ggml type for all matrices, or `Q4_K_M` for llama-quantize's mix. */
export interface RandomModelOptions {
  readonly shape: ShapeName;
  readonly type: string;
  readonly seed?: number;
}

/** The file of a model, made on first use and kept in the user's cache folder. */
export function cachedRandomModel(options: RandomModelOptions): string {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  const folder = join(cache, "quetzal", "random-models");
  const { shape, type, seed = 1 } = options;
  const path = join(folder, `${shape}-${type}-${seed}-v3.gguf`);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  writeRandomModel(unfinished, options);
  renameSync(unfinished, path);
  return path;
}

export function writeRandomModel(
  path: string,
  { shape: shapeName, type, seed = 1 }: RandomModelOptions,
): void {
  const shape: Shape = shapes[shapeName];
  writeGguf(path, {
    metadata: metadataOf(shapeName, shape),
    tensors: tensorsOf(shape, type, seed),
  });
}

function tensorsOf(shape: Shape, type: string, seed: number): WriteTensor[] {
  const { layers, width, feedForward, heads, kvHeads, headDim, vocab } = shape;
  const random = (name: string) => new RandomWords(seedOf(seed, name));
  const matrix = (
    name: string,
    rows: number,
    cols: number,
    deviation: number,
  ): WriteTensor => ({
    name,
    type: ggmlTypeIds[typeOf(type, name, layers)]!,
    dims: [cols, rows],
    data: () =>
      pieces(typeOf(type, name, layers), rows * cols, deviation, random(name)),
  });
  const norm = (name: string): WriteTensor => ({
    name,
    type: ggmlTypeIds.F32!,
    dims: [width],
    data: new Uint8Array(
      Float32Array.from({ length: width }, oneAndSome(random(name))).buffer,
    ),
  });
  const spread = 1 / Math.sqrt(width);
  const residual = 2 / Math.sqrt(2 * layers);
  const tensors = [
    // Logits with a deviation of about 0.9. Random nets amplify what rounding does to
    // their activations, and more of it reaches the answer the wider logits spread.
    matrix("token_embd.weight", vocab, width, 0.02 * Math.sqrt(2048 / width)),
    norm("output_norm.weight"),
  ];
  for (let layer = 0; layer < layers; layer++) {
    const name = (part: string) => `blk.${layer}.${part}.weight`;
    const q = heads * headDim, kv = kvHeads * headDim;
    tensors.push(
      norm(name("attn_norm")),
      matrix(name("attn_q"), q, width, spread),
      matrix(name("attn_k"), kv, width, spread),
      matrix(name("attn_v"), kv, width, spread),
      matrix(name("attn_output"), width, q, residual / Math.sqrt(q)),
      norm(name("ffn_norm")),
      matrix(name("ffn_gate"), feedForward, width, spread),
      matrix(name("ffn_up"), feedForward, width, spread),
      matrix(
        name("ffn_down"),
        width,
        feedForward,
        residual / Math.sqrt(feedForward),
      ),
    );
  }
  return tensors;
}

const oneAndSome = (random: RandomWords) => () =>
  1 + 0.1 * (random.unit() - 0.5);

/** Q4_K_M as llama-quantize mixes it: Q6_K where it helps most (facts of the format). */
function typeOf(type: string, name: string, layers: number): string {
  if (type !== "Q4_K_M") return type;
  if (name === "token_embd.weight") return "Q6_K";
  const layer = Number(/^blk\.(\d+)\./.exec(name)?.[1]);
  const eighth = Math.floor(layers / 8);
  const more = layer < eighth || layer >= Math.floor(7 * layers / 8) ||
    (layer - eighth) % 3 === 2;
  return more && /attn_v|ffn_down/.test(name) ? "Q6_K" : "Q4_K";
}

/** FNV-1a over the name, so that each tensor has weights of its own. */
function seedOf(seed: number, name: string): number {
  let hash = 0x811c9dc5 ^ seed;
  for (const char of name) {
    hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
  }
  return hash;
}

function* pieces(
  type: string,
  elements: number,
  deviation: number,
  random: RandomWords,
): Iterable<Uint8Array> {
  const id = ggmlTypeIds[type]!;
  const most = 1 << 22;
  const { blockElements } = ggmlTypes.get(id)!;
  if (elements % blockElements !== 0) throw new RangeError(`${type} rows`);
  for (let done = 0; done < elements; done += most) {
    const count = Math.min(most, elements - done);
    yield randomBlocks(id, count, { deviation, random });
  }
}

function metadataOf(name: string, shape: Shape) {
  const specials = shape.vocab > 8192 ? 256 : 16;
  const { tokens, merges } = syntheticBpe(shape.vocab - specials);
  const bos = tokens.length;
  tokens.push("<|begin_of_text|>", "<|end_of_text|>");
  while (tokens.length < shape.vocab) {
    tokens.push(`<|reserved_${tokens.length}|>`);
  }
  const types = tokens.map((_, id) => id < bos ? 1 : 3);
  return {
    "general.architecture": gguf.string("llama"),
    "general.name": gguf.string(`random-${name}`),
    "general.quantization_version": gguf.u32(2),
    "llama.block_count": gguf.u32(shape.layers),
    "llama.context_length": gguf.u32(shape.contextLength),
    "llama.embedding_length": gguf.u32(shape.width),
    "llama.feed_forward_length": gguf.u32(shape.feedForward),
    "llama.attention.head_count": gguf.u32(shape.heads),
    "llama.attention.head_count_kv": gguf.u32(shape.kvHeads),
    "llama.attention.layer_norm_rms_epsilon": gguf.f32(1e-5),
    "llama.rope.dimension_count": gguf.u32(shape.headDim),
    "llama.rope.freq_base": gguf.f32(500_000),
    "llama.vocab_size": gguf.u32(shape.vocab),
    "tokenizer.ggml.model": gguf.string("gpt2"),
    "tokenizer.ggml.pre": gguf.string("llama-bpe"),
    "tokenizer.ggml.tokens": gguf.array("string", tokens),
    "tokenizer.ggml.token_type": gguf.array("i32", types),
    "tokenizer.ggml.merges": gguf.array("string", merges),
    "tokenizer.ggml.bos_token_id": gguf.u32(bos),
    "tokenizer.ggml.eos_token_id": gguf.u32(bos + 1),
    "tokenizer.ggml.add_bos_token": gguf.bool(true),
  };
}

/** 256 byte tokens, then merges of letters into ever longer words. */
function syntheticBpe(count: number): { tokens: string[]; merges: string[] } {
  const tokens = byteTokens();
  const merges: string[] = [];
  const letters = Array.from("abcdefghijklmnopqrstuvwxyz");
  const space = "\u0120";
  for (let level = [space, ...letters]; tokens.length < count;) {
    const next: string[] = [];
    for (const left of level) {
      for (const letter of letters) {
        if (tokens.length >= count) break;
        merges.push(`${left} ${letter}`);
        tokens.push(left + letter);
        next.push(left + letter);
      }
    }
    level = next;
  }
  return { tokens, merges };
}

/** The printable characters that byte-level BPE writes bytes as (GPT-2). */
function byteTokens(): string[] {
  const shown = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let moved = 0;
  return Array.from(
    { length: 256 },
    (_, byte) => String.fromCodePoint(shown(byte) ? byte : 256 + moved++),
  );
}
