/**
 * The llama family: Llama 1 to 3, Mistral 7B, TinyLlama, SmolLM and their kin.
 *
 * Per layer: RMSNorm, q k v, rotation of neighbouring pairs, attention with
 * grouped heads, output, residual; RMSNorm, gated SiLU feed-forward, residual.
 * In the last layer only rows with wanted logits go on behind attention: the
 * others have done their part once their K and V are written.
 */
import { Code, MeshError } from "../../errors/mesh_error.ts";
import type { GgufFile } from "../../gguf/mod.ts";
import {
  ProgramBuilder,
  RowKind,
  type TensorId,
  type WeightId,
} from "../program.ts";
import type { ModelGraph } from "./graph.ts";
import { WeightList } from "./weight_list.ts";

export function buildLlama(file: GgufFile): ModelGraph {
  const shape = readShape(file);
  const list = new WeightList(file);
  const table = list.matrix("token_embd.weight", {
    rows: shape.vocabSize,
    cols: shape.width,
  });
  const recorder = new LlamaRecorder(shape, list);
  recorder.record(table);
  list.refuseOthers(/^rope_freqs\.weight$|\.attn_rot_embd$/);
  return {
    program: recorder.builder.build(),
    weights: list.weights,
    kv: {
      layers: shape.layers,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
    },
    contextLength: shape.contextLength,
    vocabSize: shape.vocabSize,
    hiddenSize: shape.width,
  };
}

interface LlamaShape {
  readonly layers: number;
  /** Columns of the residual stream. */
  readonly width: number;
  readonly feedForward: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly rotatedDims: number;
  readonly ropeBase: number;
  readonly ropeScale: number;
  readonly epsilon: number;
  readonly contextLength: number;
  readonly vocabSize: number;
}

function readShape(file: GgufFile): LlamaShape {
  const { metadata } = file;
  const refuse = refusal(file);
  const width = positive(file, "llama.embedding_length");
  const heads = positive(file, "llama.attention.head_count");
  const kvHeads = positive(file, "llama.attention.head_count_kv", heads);
  const headDim = positive(file, "llama.attention.key_length", width / heads);
  const shape = {
    layers: positive(file, "llama.block_count"),
    width,
    feedForward: positive(file, "llama.feed_forward_length"),
    heads,
    kvHeads,
    headDim,
    rotatedDims: positive(file, "llama.rope.dimension_count", headDim),
    ropeBase: metadata.number("llama.rope.freq_base", 10000),
    ropeScale: readRopeScale(file),
    epsilon: metadata.number("llama.attention.layer_norm_rms_epsilon"),
    contextLength: positive(file, "llama.context_length"),
    vocabSize: readVocabSize(file),
  };
  if (heads % kvHeads !== 0) {
    refuse(
      "llama.attention.head_count_kv",
      `a divisor of ${heads} heads`,
      kvHeads,
    );
  }
  if (shape.rotatedDims % 2 !== 0 || shape.rotatedDims > headDim) {
    const needed = `an even number up to ${headDim}`;
    refuse("llama.rope.dimension_count", needed, shape.rotatedDims);
  }
  if (!(shape.ropeBase > 0)) {
    refuse("llama.rope.freq_base", "> 0", shape.ropeBase);
  }
  if (!(shape.epsilon >= 0)) {
    refuse("llama.attention.layer_norm_rms_epsilon", ">= 0", shape.epsilon);
  }
  const valueLength = positive(file, "llama.attention.value_length", headDim);
  if (valueLength !== headDim) {
    refuse(
      "llama.attention.value_length",
      `${headDim} as key_length`,
      valueLength,
    );
  }
  refuseVariants(file, shape.contextLength);
  return shape;
}

/** Keys whose presence means a computation that this graph does not have. */
function refuseVariants(file: GgufFile, contextLength: number): void {
  const { metadata } = file;
  const refuse = refusal(file);
  const neutral: readonly (readonly [string, number])[] = [
    ["llama.expert_count", 0],
    ["llama.attn_logit_softcapping", 0],
    ["llama.final_logit_softcapping", 0],
    ["llama.logit_scale", 1],
    ["llama.embedding_scale", 1],
    ["llama.residual_scale", 1],
    ["llama.attention.scale", 0],
    ["llama.rope.scaling.attn_factor", 1],
  ];
  for (const [key, value] of neutral) {
    const found = metadata.number(key, value);
    if (found !== value && found !== 0) refuse(key, `${value}`, found);
  }
  const window = metadata.integer("llama.attention.sliding_window", 0);
  if (window > 0 && window < contextLength) {
    refuse(
      "llama.attention.sliding_window",
      `none below ${contextLength}`,
      window,
    );
  }
}

function readRopeScale(file: GgufFile): number {
  const { metadata } = file;
  const kind = metadata.string("llama.rope.scaling.type", "none");
  const legacy = metadata.number("llama.rope.scale_linear", 1);
  const factor = metadata.number("llama.rope.scaling.factor", legacy);
  const linear = kind === "linear" ||
    metadata.get("llama.rope.scaling.type") === undefined;
  if (!linear && kind !== "none") {
    refusal(file)("llama.rope.scaling.type", "none or linear", kind);
  }
  if (!linear || factor === 0) return 1;
  if (!(factor > 0)) refusal(file)("llama.rope.scaling.factor", "> 0", factor);
  return 1 / factor;
}

/** Rows of the token table; the metadata, where present, must agree. */
function readVocabSize(file: GgufFile): number {
  const rows = file.tensors.get("token_embd.weight")?.dims[1] ?? 0;
  const declared = file.metadata.integer("llama.vocab_size", rows);
  if (rows > 0 && declared !== rows) {
    refusal(file)(
      "llama.vocab_size",
      `${rows} as token_embd.weight has rows`,
      declared,
    );
  }
  return declared;
}

/** A whole number > 0; one value per layer is accepted when all are the same. */
function positive(file: GgufFile, key: string, fallback?: number): number {
  const stored = file.metadata.get(key);
  const perLayer = stored instanceof Int32Array ||
    stored instanceof Uint32Array;
  const value = perLayer ? stored[0] : file.metadata.integer(key, fallback);
  if (perLayer && stored.some((entry) => entry !== value)) {
    refusal(file)(key, "one value for all layers", [...stored].join(", "));
  }
  if (!Number.isInteger(value) || value < 1) {
    refusal(file)(key, "a whole number > 0", value);
  }
  return value;
}

function refusal(file: GgufFile) {
  return (key: string, needed: string, found: number | string): never => {
    throw new MeshError(
      Code.unimplemented,
      `Cannot load model "${file.path}": key "${key}": needs ${needed}, found ${found}`,
    );
  };
}

/** Records the ops; holds what all layers share. */
class LlamaRecorder {
  readonly builder = new ProgramBuilder();
  readonly #shape: LlamaShape;
  readonly #list: WeightList;
  readonly #divisors: WeightId | undefined;

  constructor(shape: LlamaShape, list: WeightList) {
    this.#shape = shape;
    this.#list = list;
    this.#divisors = list.optionalVector(
      "rope_freqs.weight",
      shape.rotatedDims / 2,
    );
  }

  record(table: WeightId): void {
    const { builder } = this;
    const { width, layers, vocabSize, epsilon } = this.#shape;
    let x = builder.tensor(RowKind.rows, width);
    builder.embed(x, table);
    const buffers = this.#layerTensors();
    const outBuffers = this.#outTensors();
    for (let layer = 0; layer < layers; layer++) {
      this.#attend(layer, x, buffers);
      x = layer < layers - 1
        ? this.#feedForward(layer, x, buffers.attended, buffers)
        : this.#lastRows(layer, x, buffers.attended, outBuffers);
    }
    const normed = outBuffers.normed;
    builder.rmsNorm(normed, x, this.#list.vector("output_norm.weight", width), {
      epsilon,
    });
    const logits = builder.tensor(RowKind.outRows, vocabSize);
    builder.matmul(logits, normed, this.#outputMatrix(table));
    builder.sample(logits, normed);
  }

  #outputMatrix(table: WeightId): WeightId {
    const { vocabSize, width } = this.#shape;
    return this.#list.has("output.weight")
      ? this.#list.matrix("output.weight", { rows: vocabSize, cols: width })
      : table;
  }

  #attend(layer: number, x: TensorId, t: LayerTensors): void {
    const { builder } = this;
    const { heads, kvHeads, headDim, width, epsilon } = this.#shape;
    const norm = this.#list.vector(`blk.${layer}.attn_norm.weight`, width);
    builder.rmsNorm(t.normed, x, norm, { epsilon });
    this.#matmul(t.q, t.normed, `blk.${layer}.attn_q`, heads * headDim, width);
    this.#matmul(
      t.k,
      t.normed,
      `blk.${layer}.attn_k`,
      kvHeads * headDim,
      width,
    );
    this.#matmul(
      t.v,
      t.normed,
      `blk.${layer}.attn_v`,
      kvHeads * headDim,
      width,
    );
    this.#rotate(t.q, heads);
    this.#rotate(t.k, kvHeads);
    builder.kvWrite(layer, t.k, t.v);
    const scale = 1 / Math.sqrt(headDim);
    builder.attention(t.attended, t.q, { layer, heads, scale });
  }

  #rotate(dst: TensorId, heads: number): void {
    const { headDim, rotatedDims, ropeBase, ropeScale } = this.#shape;
    this.builder.rope(dst, {
      heads,
      headDim,
      rotatedDims,
      pairing: "norm",
      base: ropeBase,
      frequencyScale: ropeScale,
      divisors: this.#divisors,
    });
  }

  /** From attention's result and the residual `x` to the next layer's residual. */
  #feedForward(
    layer: number,
    x: TensorId,
    attended: TensorId,
    t: FeedForwardTensors,
  ): TensorId {
    const { builder } = this;
    const { heads, headDim, width, feedForward, epsilon } = this.#shape;
    const name = `blk.${layer}`;
    this.#matmul(
      t.delta,
      attended,
      `${name}.attn_output`,
      width,
      heads * headDim,
    );
    builder.add(t.middle, x, t.delta);
    const norm = this.#list.vector(`${name}.ffn_norm.weight`, width);
    builder.rmsNorm(t.normed, t.middle, norm, { epsilon });
    this.#matmul(t.gate, t.normed, `${name}.ffn_gate`, feedForward, width);
    this.#matmul(t.up, t.normed, `${name}.ffn_up`, feedForward, width);
    builder.siluMul(t.gated, t.gate, t.up);
    this.#matmul(t.delta, t.gated, `${name}.ffn_down`, width, feedForward);
    builder.add(t.next, t.middle, t.delta);
    return t.next;
  }

  #lastRows(
    layer: number,
    x: TensorId,
    attended: TensorId,
    t: FeedForwardTensors,
  ): TensorId {
    const { heads, headDim, width } = this.#shape;
    const outX = this.builder.tensor(RowKind.outRows, width);
    const outAttended = this.builder.tensor(RowKind.outRows, heads * headDim);
    this.builder.gather(outX, x);
    this.builder.gather(outAttended, attended);
    return this.#feedForward(layer, outX, outAttended, t);
  }

  #matmul(
    dst: TensorId,
    a: TensorId,
    name: string,
    rows: number,
    cols: number,
  ): void {
    const weight = this.#list.matrix(`${name}.weight`, { rows, cols });
    const bias = this.#list.optionalVector(`${name}.bias`, rows);
    this.builder.matmul(dst, a, weight, bias);
  }

  #layerTensors(): LayerTensors {
    const { heads, kvHeads, headDim } = this.#shape;
    const tensor = (cols: number) => this.builder.tensor(RowKind.rows, cols);
    return {
      ...this.#feedForwardTensors(RowKind.rows),
      q: tensor(heads * headDim),
      k: tensor(kvHeads * headDim),
      v: tensor(kvHeads * headDim),
      attended: tensor(heads * headDim),
    };
  }

  #outTensors(): FeedForwardTensors {
    return this.#feedForwardTensors(RowKind.outRows);
  }

  #feedForwardTensors(rowKind: RowKind): FeedForwardTensors {
    const { width, feedForward } = this.#shape;
    const tensor = (cols: number) => this.builder.tensor(rowKind, cols);
    return {
      normed: tensor(width),
      delta: tensor(width),
      middle: tensor(width),
      next: tensor(width),
      gate: tensor(feedForward),
      up: tensor(feedForward),
      gated: tensor(feedForward),
    };
  }
}

interface FeedForwardTensors {
  readonly normed: TensorId;
  readonly delta: TensorId;
  /** Residual behind attention. */
  readonly middle: TensorId;
  /** Residual behind the layer. */
  readonly next: TensorId;
  readonly gate: TensorId;
  readonly up: TensorId;
  readonly gated: TensorId;
}

interface LayerTensors extends FeedForwardTensors {
  readonly q: TensorId;
  readonly k: TensorId;
  readonly v: TensorId;
  readonly attended: TensorId;
}
