// What a caller asks for, copied out of JavaScript; nothing here is trusted yet.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../include/kernels.h"
#include "../include/program.h"
#include "status.h"

namespace quetzal {

struct WeightSpec {
  std::string name;
  int32_t type;
  int64_t cols, rows, offset, bytes;
};

struct TensorSpec {
  int32_t rowKind;
  int32_t cols;
};

struct KvShape {
  int64_t layers, kvHeads, headDim, blockTokens, blocks;
  KvType type = KvType::f16;
  int64_t blockBytes() const {
    return layers * 2 * kvHeads * kvHeadBytes(type, blockTokens, headDim);
  }
};

struct ModelSpec {
  std::string path;
  std::string isa;
  int64_t threads;
  std::vector<WeightSpec> weights;
  std::vector<TensorSpec> tensors;
  std::vector<int32_t> ops;
  KvShape kv;
  int64_t rowsMax, outRowsMax;
};

/// One step, copied out of JavaScript and checked by `checkBatch`.
struct StepInput {
  int64_t rows, sequences, outRows;
  std::vector<int32_t> tokenIds, positions, sequenceTable, blockTables, outRowIndex;
  std::vector<int32_t> samplingInts, history, biasIds;
  std::vector<float> samplingFloats, biasValues;
};

constexpr int samplingIntWords = 10;
constexpr int samplingFloatWords = 6;

/// Whether the out row's hidden state is given out.
inline bool wantsHidden(const StepInput& in, int64_t outRow) {
  return in.samplingInts[outRow * samplingIntWords + 9] != 0;
}

constexpr int64_t positionsMax = 1 << 24;

/// The sizes of a spec: every number in range, weights inside the file. `fileBytes`
/// is checked when the file is open.
Status checkShapes(const ModelSpec& spec);

}  // namespace quetzal
