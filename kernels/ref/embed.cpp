#include <cstring>

#include "../include/half.h"
#include "blocks.h"
#include "twins.h"

namespace quetzal::ref {

int64_t packedBytes(WeightType type, int64_t rows, int64_t cols) {
  return rows * rowBytes(type, cols);
}

void pack(WeightType type, int64_t, int64_t cols, int64_t rowBegin, int64_t count,
          const uint8_t* src, uint8_t* dst) {
  const int64_t bytes = rowBytes(type, cols);
  std::memcpy(dst + rowBegin * bytes, src, count * bytes);
}

float plainAt(WeightType type, const uint8_t* row, int64_t col) {
  if (type == WeightType::f32) {
    float value;
    std::memcpy(&value, row + col * 4, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, row + col * 2, 2);
  return type == WeightType::f16 ? f16ToF32(half) : bf16ToF32(half);
}

void embed(const Matrix* table, const int32_t* ids, int64_t count, float* dst) {
  const int64_t cols = table->cols, bytes = rowBytes(table->type, cols);
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* row = table->data + ids[i] * bytes;
    float* out = dst + i * cols;
    if (!isQuantized(table->type)) {
      for (int64_t col = 0; col < cols; ++col) out[col] = plainAt(table->type, row, col);
      continue;
    }
    for (int64_t col = 0; col < cols; col += 32) {
      const Block block = decodeBlock(table->type, row, col / 32);
      for (int64_t k = 0; k < 32; ++k) {
        const int64_t half = k / block.group;
        out[col + k] = static_cast<float>(block.quants[k]) * block.scale[half] - block.min[half];
      }
    }
  }
}

}  // namespace quetzal::ref
