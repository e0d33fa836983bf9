import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, test } from "vitest";
import { Code } from "../../errors/mesh_error.ts";
import { gguf, readGguf } from "../../gguf/mod.ts";
import { Opcode, opWords } from "../program.ts";
import {
  type TinyModelOptions,
  writeTinyModel,
} from "../testing/tiny_model.ts";
import { buildGraph } from "./mod.ts";

const folder = mkdtempSync(join(tmpdir(), "quetzal-llama-"));
afterAll(() => rmSync(folder, { recursive: true }));

function build(options: TinyModelOptions) {
  const path = join(folder, "tiny.gguf");
  writeTinyModel(path, options);
  return buildGraph(readGguf(path));
}

function opcodes({ program: { ops } }: ReturnType<typeof build>): number[] {
  return Array.from(
    { length: ops.length / opWords },
    (_, i) => ops[i * opWords],
  );
}

test("the graph says shape and weights of the file", () => {
  const graph = build({});
  deepEqual(graph.kv, { layers: 2, kvHeads: 2, headDim: 16 });
  equal(graph.contextLength, 256);
  equal(graph.vocabSize, 97);
  equal(graph.weights.length, 1 + 2 * 9 + 2);
  const up = graph.weights.find(({ name }) => name === "blk.1.ffn_up.weight")!;
  deepEqual([up.cols, up.rows, up.bytes], [64, 96, 4 * 64 * 96]);
});

test("the program ends with sampling from the output matrix", () => {
  const codes = opcodes(build({}));
  deepEqual(codes.slice(0, 5), [
    Opcode.embed,
    Opcode.rmsNorm,
    Opcode.matmul,
    Opcode.matmul,
    Opcode.matmul,
  ]);
  deepEqual(codes.slice(-3), [Opcode.rmsNorm, Opcode.matmul, Opcode.sample]);
  equal(codes.filter((code) => code === Opcode.attention).length, 2);
  equal(codes.filter((code) => code === Opcode.gather).length, 2);
});

test("without output.weight the token table is used for the logits", () => {
  const { weights, program: { ops } } = build({ tied: true });
  ok(!weights.some(({ name }) => name === "output.weight"));
  equal(ops[5], ops[ops.length - 2 * opWords + 5]);
});

test("biases and rope divisors are used where the file has them", () => {
  const { weights, program: { ops } } = build({
    biases: true,
    ropeDivisors: true,
  });
  const named = (name: string) =>
    weights.findIndex((weight) => weight.name === name);
  ok(named("blk.1.ffn_down.bias") > 0);
  const records = Array.from(
    { length: ops.length / opWords },
    (_, i) => ops.subarray(i * opWords, (i + 1) * opWords),
  );
  const ropes = records.filter(([code]) => code === Opcode.rope);
  equal(ropes.length, 4);
  for (const rope of ropes) equal(rope[5], named("rope_freqs.weight"));
  const q = records.find((op) => op[5] === named("blk.0.attn_q.weight"))!;
  equal(q[6], named("blk.0.attn_q.bias"));
});

test("linear rope scaling divides the angles", () => {
  const scales = (metadata: TinyModelOptions["metadata"]) => {
    const { ops } = build({ metadata }).program;
    const at = Array.from(
      { length: ops.length / opWords },
      (_, i) => i * opWords,
    )
      .find((begin) => ops[begin] === Opcode.rope)!;
    return [...new Float32Array(ops.buffer, 4 * (at + 13), 2)];
  };
  const type = "llama.rope.scaling.type";
  const factor = { "llama.rope.scaling.factor": gguf.f32(4) };
  deepEqual(scales({}), [10000, 1]);
  deepEqual(scales({ ...factor, [type]: gguf.string("linear") }), [
    10000,
    0.25,
  ]);
  deepEqual(scales({ ...factor, [type]: gguf.string("none") }), [10000, 1]);
  deepEqual(scales({ "llama.rope.scale_linear": gguf.f32(2) }), [10000, 0.5]);
});

test("one head_count_kv per layer is fine when all are equal", () => {
  const perLayer = (values: number[]) => ({
    metadata: { "llama.attention.head_count_kv": gguf.array("u32", values) },
  });
  equal(build(perLayer([2, 2])).kv.kvHeads, 2);
  throws(
    () => build(perLayer([2, 4])),
    /needs one value for all layers, found 2, 4/,
  );
});

const arch = "general.architecture";
const refusals: [string, RegExp, TinyModelOptions][] = [
  ["an unknown architecture", /needs one of llama, found mamba/, {
    metadata: { [arch]: gguf.string("mamba") },
  }],
  ["a name every object has", /needs one of llama, found toString/, {
    metadata: { [arch]: gguf.string("toString") },
  }],
  ["experts", /"llama.expert_count": needs 0, found 8/, {
    metadata: { "llama.expert_count": gguf.u32(8) },
  }],
  ["yarn", /"llama.rope.scaling.type": needs none or linear, found yarn/, {
    metadata: { "llama.rope.scaling.type": gguf.string("yarn") },
  }],
  ["a sliding window", /sliding_window": needs none below 256, found 128/, {
    metadata: { "llama.attention.sliding_window": gguf.u32(128) },
  }],
  ["soft caps", /final_logit_softcapping": needs 0, found 30/, {
    metadata: { "llama.final_logit_softcapping": gguf.f32(30) },
  }],
  ["another value length", /value_length": needs 16 as key_length, found 8/, {
    metadata: { "llama.attention.value_length": gguf.u32(8) },
  }],
  [
    "an odd rotation",
    /dimension_count": needs an even number up to 16, found 15/,
    {
      metadata: { "llama.rope.dimension_count": gguf.u32(15) },
    },
  ],
  [
    "heads that do not divide",
    /head_count_kv": needs a divisor of 4 heads, found 3/,
    {
      metadata: { "llama.attention.head_count_kv": gguf.u32(3) },
    },
  ],
  [
    "another vocabulary",
    /vocab_size": needs 97 as token_embd.weight has rows, found 98/,
    {
      metadata: { "llama.vocab_size": gguf.u32(98) },
    },
  ],
  [
    "a missing tensor",
    /tensor "blk.1.ffn_up.weight": needed with dims \[64, 96\], not found/,
    {
      change: (tensors) =>
        tensors.filter(({ name }) => name !== "blk.1.ffn_up.weight"),
    },
  ],
  [
    "a tensor of another shape",
    /"blk.0.attn_k.weight": needs dims \[64, 64\], found \[64, 32\]/,
    {
      metadata: { "llama.attention.head_count_kv": gguf.u32(4) },
    },
  ],
  [
    "a tensor of an unknown type",
    /"output.weight": needs type F32.*, found I16/,
    {
      change: (tensors) =>
        tensors.map((tensor) =>
          tensor.name === "output.weight"
            ? { ...tensor, type: 25, data: new Uint8Array(64 * 97 * 2) }
            : tensor
        ),
    },
  ],
  ["a leftover tensor", /no place for tensor "blk.0.attn_q_norm.weight"/, {
    change: (tensors) => [
      ...tensors,
      {
        name: "blk.0.attn_q_norm.weight",
        type: 0,
        dims: [16],
        data: new Uint8Array(64),
      },
    ],
  }],
];

test.for(refusals)(
  "%s: refused with file, needed and found",
  ([, message, options]) => {
    throws(() => build(options), (error: { code: number; message: string }) => {
      ok(
        error.code === Code.unimplemented ||
          error.code === Code.invalidArgument,
      );
      ok(message.test(error.message), error.message);
      ok(error.message.includes("tiny.gguf"), error.message);
      return true;
    });
  },
);
