// Quantized weights as the formulas of the formats say, block of 32 by block of 32.
#pragma once
#include "../include/kernels.h"

namespace quetzal::ref {

/// 32 values: value i is quants[i] * scale[i / group] - min[i / group].
struct Block {
  int32_t quants[32];
  int64_t group;  // 16 or 32 values share a scale
  float scale[2], min[2];
};

/// Block `block` of a row in the layout of the file.
Block decodeBlock(WeightType type, const uint8_t* row, int64_t block);

}  // namespace quetzal::ref
