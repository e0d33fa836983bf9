#include <cstring>

#include "../include/half.h"
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

float weightAt(const Matrix& matrix, int64_t row, int64_t col) {
  const uint8_t* in = matrix.data + row * rowBytes(matrix.type, matrix.cols);
  const int64_t block = col / quantBlock, at = col % quantBlock;
  uint16_t half;
  float value;
  switch (matrix.type) {
    case WeightType::f32:
      std::memcpy(&value, in + col * 4, 4);
      return value;
    case WeightType::f16:
      std::memcpy(&half, in + col * 2, 2);
      return f16ToF32(half);
    case WeightType::bf16:
      std::memcpy(&half, in + col * 2, 2);
      return bf16ToF32(half);
    case WeightType::q8_0:
      in += block * q8BlockBytes;
      std::memcpy(&half, in, 2);
      return static_cast<float>(static_cast<int8_t>(in[2 + at])) * f16ToF32(half);
    case WeightType::q4_0:
      in += block * q4BlockBytes;
      std::memcpy(&half, in, 2);
      return static_cast<float>((at < 16 ? in[2 + at] & 15 : in[2 + at - 16] >> 4) - 8) *
          f16ToF32(half);
  }
  return 0;
}

void embed(const Matrix* table, const int32_t* ids, int64_t count, float* dst) {
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t col = 0; col < table->cols; ++col) {
      dst[row * table->cols + col] = weightAt(*table, ids[row], col);
    }
  }
}

}  // namespace quetzal::ref
