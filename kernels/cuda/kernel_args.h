// Arguments of the CUDA kernels: what the host fills and the device reads. A kernel takes
// one struct by value. Pointers are device addresses; tensors are row-major.
//
// A captured graph keeps its arguments, so they hold only what a step does not change;
// what it does change lies in device memory that the arguments point to.
#pragma once
#include <cstdint>

namespace quetzal::cuda {

/// ggml type ids of the weights that these kernels read.
constexpr int32_t typeF32 = 0, typeF16 = 1, typeQ4_0 = 2, typeQ8_0 = 8, typeQ4_K = 12,
                  typeQ5_K = 13, typeQ6_K = 14, typeBF16 = 30;

/// A weight as `repackRows` lays it out: 16-byte aligned rows of quants, scales aside.
struct DeviceMatrix {
  const uint8_t* quants;
  const uint8_t* scales;  // f16 [rows, blocks] of Q4_0, Q8_0, Q6_K; else null
  int32_t type, rows, cols;
};

/// Forms of activations that matmuls read. `mode` says which of them a kernel makes.
struct Prepared {
  int8_t* quants;     // [rows, cols]
  float* scales;      // [rows, cols / 32], of 32 quants
  int32_t* sums;      // [rows, cols / 16], of 16 quants
  uint16_t* halves;   // f16 [rows, cols], each row times a power of two
  float* rowScales;   // f32 [rows], undoes that power
  int32_t mode;
};
constexpr int32_t preparesQuants = 1, preparesHalves = 2;

struct MatmulSegment {
  DeviceMatrix weight;
  const float* bias;   // [weight.rows] or null
  float* dst;          // [rows, weight.rows]
  int32_t firstBlock;  // of the grid's x
};
constexpr int32_t segmentsMax = 4;

/// Up to four weights times the same activations.
struct MatmulArgs {
  const float* a;  // [rows, cols]
  Prepared x;      // the same rows
  int32_t rows, cols, segments;
  MatmulSegment segment[segmentsMax];
};

/// Outputs per block: four warps with one each; or one tile of 16.
constexpr int32_t gemvBlockRows = 4, gemvThreads = 128, tileBlockRows = 16, tileThreads = 256;
/// Activation rows up to which the plain product is launched; more take tensor cores.
constexpr int32_t gemvRowsMax = 4;
/// Weights are multiplied by this before they become halves, so that tiny scales keep
/// their bits; the product is divided by it.
constexpr float halfWeightScale = 64.0f;

/// Threads of a block that works on one row, of one that shares a row with others, and of
/// one that has all of a row and the largest value or the sum of it to find.
constexpr int32_t rowThreads = 256, spreadThreads = 128, wholeRowThreadsMax = 1024,
                  ropeThreads = 64;
/// Values of its row that a thread keeps in registers.
constexpr int32_t rowHeldMax = 16;

struct EmbedArgs {
  DeviceMatrix table;
  const int32_t* ids;  // [rows]
  /// Tokens of the step before: id -1 - i names entry i; below 0 (no token) counts as 0.
  const int32_t* chosen;
  float* dst;
  int32_t rows;
};

/// sum = a + b; dst = sum / rms(sum) * weight; then the prepared forms of dst.
struct NormArgs {
  const float* a;
  const float* b;  // null: sum is a, and is not written
  float* sum;
  const float* weight;  // null: dst is sum, and is not written
  float* dst;
  Prepared x;
  int32_t rows, cols;
  float epsilon;
};

/// rms_norm over equal groups of each row.
struct GroupNormArgs {
  const float* a;
  const float* weight;  // [cols / groups]
  float* dst;
  int32_t rows, cols, groups;
  float epsilon;
};

struct ElementwiseArgs {
  const float* a;
  const float* b;  // null for a copy of prepared forms only
  float* dst;
  Prepared x;
  int32_t rows, cols;
};

struct GatherArgs {
  const float* a;
  const int32_t* index;  // [rows], negative: the row is padding
  float* dst;
  int32_t rows, cols;
};

struct RopeTableArgs {
  const double* frequencies;  // [half]
  const int32_t* positions;   // [rows]
  float* cosines;             // [rows, half]
  float* sines;
  int32_t rows, half;
};

/// f16 [blocks][layer][k|v][kvHead][token][headDim]
struct DeviceKv {
  uint16_t* pool;
  int64_t blockHalves, layerHalves;  // layerHalves: of k and v of one layer
  int32_t kvHeads, headDim, blockTokens;
};

/// Turns q and k, writes k and v to the pool; each part is left out when its pointer is null.
struct RopeKvArgs {
  float* q;  // [rows, heads * headDim]
  float* k;  // [rows, kvHeads * headDim]
  const float* v;
  const float* cosines;  // [rows, rotated / 2]; null: nothing turns
  const float* sines;
  const int32_t* block;  // [rows]; negative: the row is padding
  const int32_t* slot;
  DeviceKv kv;
  int32_t rows, heads, kHeads, headDim, rotated, neox, layer, writesKv;
};

struct AttentionArgs {
  DeviceKv kv;
  const float* q;            // [rows, heads * headDim]
  float* dst;
  const int32_t* lengths;    // [rows], tokens that the row sees; 0: padding
  const int32_t* tableBegin; // [rows], into tables
  const int32_t* tables;     // block ids
  float* partial;            // [rows, heads, splits, headDim], unnormalized
  float* partialState;       // [rows, heads, splits, 2]: largest score, sum of weights
  Prepared x;                // of dst, made by attention_finish
  int32_t rows, heads, layer, splits;
  float scale;
};

/// A row's tokens are split by its length alone, so that its result does not depend on
/// the batch: at least 256 tokens a split, at most 32 splits.
constexpr int32_t splitTokensMin = 256, splitsMax = 32, attentionThreads = 128;
#ifdef __CUDACC__
__host__ __device__
#endif
static inline int32_t splitTokensOf(int32_t length) {
  const int32_t tokens = ((length + splitsMax - 1) / splitsMax + 15) / 16 * 16;
  return tokens > splitTokensMin ? tokens : splitTokensMin;
}

constexpr int32_t sampleIntWords = 10, sampleFloatWords = 7, sampleTopMax = 20;

/// What sample_scan finds in one part of a row's logits.
struct SamplePart {
  uint64_t rank;  // of the largest: its key above its inverted id
  double sum;     // of exp(logit - largest)
  int32_t isNotFinite;
};
constexpr int32_t scanThreads = 256, scanHeld = 8, scanTokens = scanThreads * scanHeld;

#ifdef __CUDACC__
__host__ __device__
#endif
static inline int32_t scanPartsOf(int32_t vocab) { return (vocab + scanTokens - 1) / scanTokens; }

/// Sampling of out rows; the words are those of Batch.samplingInts and samplingFloats with
/// histories and biases at absolute places in `tables`; int word 9 is where the bias values
/// (f32 bits) begin, float word 6 is ln(minP) or -infinity.
struct SampleArgs {
  const float* logits;    // [rows, vocab]
  const int32_t* ints;    // [rows, sampleIntWords]
  const float* floats;    // [rows, sampleFloatWords]
  const int32_t* tables;
  SamplePart* parts;      // [rows, scanPartsOf(vocab)]
  float* adjusted;        // [rows, vocab]
  int32_t* tokens;        // [rows]
  float* logprobs;
  int32_t* topIds;        // [rows, sampleTopMax]
  float* topLogprobs;
  int32_t* statuses;      // quetzal::SampleStatus
  int32_t rows, vocab;
};
constexpr int32_t sampleThreads = 512;
/// Of the bins of a histogram, so that fewer threads want the same word at once.
constexpr int32_t sampleBinCopies = 8;
/// Tokens on the list of those that can be kept, at most.
constexpr int32_t sampleListMax = 2048;

/// Per sequence: how many drafts the chosen tokens confirm, and the token behind them.
struct VerifyArgs {
  const int32_t* tokens;  // chosen, per out row
  const int32_t* spans;   // [sequences, 3]: first out row, drafts, first entry of drafts
  const int32_t* drafts;
  int32_t* accepted;      // [sequences]
  int32_t* next;
  int32_t sequences;
};

struct CopyArgs {
  const uint8_t* src;
  uint8_t* dst;
  int64_t bytes;  // a multiple of 16
};

/// Random weights for benchmarks, made where they are used: every `stride`th 32-bit word.
struct FillArgs {
  uint8_t* dst;
  int64_t words, stride;
  uint32_t seed, andMask, orMask;
};

/// Tensor cores fed from registers: what mma.sync can reach at most.
struct PeakArgs {
  float* dst;  // [threads of the grid]
  int32_t rounds;
};
constexpr int32_t peakTilesPerRound = 8;

}  // namespace quetzal::cuda
