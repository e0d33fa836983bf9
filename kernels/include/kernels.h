// The kernel table: what one instruction set offers to the interpreter.
//
// Kernels take raw pointers and sizes and know no framework. Only plain data is
// declared here, so that files built for different instruction sets can share it.
//
// Exactness. An element of a result is computed by the same operations in the
// same order whatever the number of rows, the tile or the thread: that makes a
// sequence's logits independent of the batch around it.
#pragma once
#include <cstdint>

#include "weight_format.h"

namespace quetzal {

/// A weight [rows, cols] in the layout of the table that packed it.
struct Matrix {
  const uint8_t* data;
  WeightType type;
  int64_t rows;
  int64_t cols;
};

/// Activations as blocks of 32 int8 with one f32 scale, and the sums of 16 int8 each,
/// which take constant offsets and minimums of weights out of a product.
///
/// The order within is the table's own: rows stand together in tiles, so that a
/// kernel reads the values of a tile one after another. `ref` has tiles of one row.
struct QuantizedRows {
  int8_t* quants;  // rows x cols
  float* scales;   // rows x cols / 32
  int32_t* sums;   // rows x cols / 16
};

struct QuantizeArgs {
  const float* a;  // f32 [rows, cols]
  int64_t rows, cols;
  QuantizedRows dst;
};

struct MatmulArgs {
  Matrix weight;
  const float* bias;        // [weight.rows] or null
  const float* a;           // f32 [rows, weight.cols], for F32, F16, BF16
  QuantizedRows quantized;  // the same rows, for all other types
  float* dst;               // f32 [rows, weight.rows]
  int64_t rows;
  uint8_t* scratch;         // matmulScratchBytes(rows or more, cols or more), 64-byte aligned
};

struct RopeArgs {
  float* x;              // f32 [rows, heads * headDim], turned in place
  const float* cosines;  // f32 [rows, rotated / 2]
  const float* sines;
  int64_t rows, heads, headDim, rotated;
  bool neox;  // pairs (i, i + rotated / 2) instead of (2i, 2i + 1)
};

/// How keys and values are stored.
enum class KvType : int32_t { f16 = 0, q8_0 = 1 };

/// [blocks][layer][k|v][kvHead], each entry the tokens of a head in a block:
///
///   f16   f16 [token][headDim]
///   q8_0  k: i8 [headDim][token], v: i8 [token][headDim]; then f16 [headDim / 32][token],
///         the scale of 32 dims. A key's codes stand apart, so that a register takes one
///         dim of sixteen tokens.
struct KvPool {
  uint8_t* data;
  KvType type;
  int64_t layers, kvHeads, headDim, blockTokens, blocks;
};

struct KvWriteArgs {
  KvPool pool;
  int64_t layer;
  const float* k;        // f32 [rows, kvHeads * headDim]
  const float* v;
  const int32_t* block;  // [rows], where each row's token lives
  const int32_t* slot;   // [rows]
};

/// Adjacent rows of one sequence, for the query heads that share one KV head.
struct AttentionArgs {
  KvPool pool;
  int64_t layer, kvHead;
  int64_t heads;               // query heads of a row
  int64_t headBegin, headEnd;  // those to compute
  const float* q;              // f32 [rows, heads * headDim], first row of the tile
  float* dst;
  int64_t rows;                // at most attentionTileRows
  int64_t kvBefore;            // row r sees tokens 0..kvBefore + r
  const int32_t* blockTable;
  float scale;
  float* scratch;              // attentionScratchFloats(...)
};

constexpr int64_t attentionTileRows = 8;

/// Attention weighs the tokens of up to four runs together; a run is up to sixteen tokens
/// of one block.
constexpr int64_t runsMax = 4, groupTokens = 16 * runsMax;

/// Sampling of one row; see proto SamplingParams for the order of the steps.
struct SampleArgs {
  const float* logits;
  int32_t vocab;
  int32_t topK, topLogprobs;
  uint64_t seed;
  uint32_t draw;
  float temperature, topP, minP, presence, frequency, repetition;
  const int32_t* history;  // [historyCount, 2]: token id, occurrences in the output
  int32_t historyCount;
  const int32_t* biasIds;
  const float* biasValues;
  int32_t biasCount;
  void* scratch;           // sampleScratchBytes(vocab)
  int32_t* token;
  float* logprob;
  int32_t* topIds;         // [topLogprobsMax]
  float* topLogprobValues;
};

constexpr int32_t topLogprobsMax = 20;

enum class SampleStatus : int32_t {
  ok = 0,
  logitsNotFinite,
  adjustedNotFinite,
  allForbidden,
  noMemory,
};

struct KernelTable {
  const char* name;
  /// What `pack` makes of a weight: tables of one layout read each other's.
  const char* layout;
  /// Rows of a weight that are packed and multiplied together.
  int64_t panelRows;
  int64_t (*packedBytes)(WeightType type, int64_t rows, int64_t cols);
  /// Packs GGUF rows [rowBegin, rowBegin + count) into `dst`, the whole weight's
  /// memory; rowBegin is a multiple of panelRows, count too unless the weight ends.
  void (*pack)(WeightType type, int64_t rows, int64_t cols, int64_t rowBegin, int64_t count,
               const uint8_t* src, uint8_t* dst);
  /// dst[i] = row ids[i]
  void (*embed)(const Matrix* table, const int32_t* ids, int64_t count, float* dst);
  void (*rmsNorm)(const float* a, const float* weight, float* dst, int64_t rows, int64_t cols,
                  int64_t groups, float epsilon);
  /// Rows [rowBegin, rowEnd) of all `rows`, which the layout depends on.
  void (*quantizeRows)(const QuantizeArgs* args, int64_t rowBegin, int64_t rowEnd);
  int64_t (*matmulScratchBytes)(int64_t rows, int64_t cols);
  /// Outputs of panels [panelBegin, panelEnd), all rows.
  void (*matmul)(const MatmulArgs* args, int64_t panelBegin, int64_t panelEnd);
  void (*add)(const float* a, const float* b, float* dst, int64_t count);
  void (*siluMul)(const float* a, const float* b, float* dst, int64_t count);
  void (*rope)(const RopeArgs* args);
  void (*kvWrite)(const KvWriteArgs* args, int64_t rowBegin, int64_t rowEnd);
  void (*attention)(const AttentionArgs* args);
  SampleStatus (*sample)(const SampleArgs* args);
};

extern const KernelTable refTable;
extern const KernelTable avx2Table;
extern const KernelTable avx512Table;

/// What AMX does; all else of its table is AVX-512's.
struct AmxKernels {
  const char* name;
  decltype(KernelTable::quantizeRows) quantizeRows;
  decltype(KernelTable::matmulScratchBytes) matmulScratchBytes;
  decltype(KernelTable::matmul) matmul;
};

extern const AmxKernels amxKernels;
extern const AmxKernels amxEmulatedKernels;

static inline int64_t paddedHeadDim(int64_t headDim) { return (headDim + 15) / 16 * 16; }

static inline int64_t attentionScratchFloats(int64_t headDim, int64_t headsPerKvHead) {
  const int64_t padded = paddedHeadDim(headDim);
  return groupTokens * padded + attentionTileRows * headsPerKvHead * (2 * padded + 2) + 64;
}

/// Candidates, adjusted logits, and probabilities.
static inline int64_t sampleScratchBytes(int64_t vocab) { return vocab * 20 + 256; }

/// Of k or v of one head in one block.
static inline int64_t kvHeadBytes(KvType type, int64_t blockTokens, int64_t headDim) {
  const int64_t values = blockTokens * headDim;
  return type == KvType::f16 ? values * 2 : values + values / quantBlock * 2;
}

/// Where k or v of one head begin.
static inline uint8_t* kvHeadOf(const KvPool& pool, int64_t block, int64_t layer, int64_t isV,
                                int64_t kvHead) {
  const int64_t head = ((block * pool.layers + layer) * 2 + isV) * pool.kvHeads + kvHead;
  return pool.data + head * kvHeadBytes(pool.type, pool.blockTokens, pool.headDim);
}

/// q8_0: the scales behind the codes of a head.
static inline uint16_t* kvScalesOf(const KvPool& pool, uint8_t* head) {
  return reinterpret_cast<uint16_t*>(head + pool.blockTokens * pool.headDim);
}

}  // namespace quetzal
