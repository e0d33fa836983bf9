#include "cuda_repack.h"

#include <cstring>

#include "../cuda/kernel_args.h"

namespace quetzal::cuda {

BlockShape blockOf(int32_t type) {
  switch (type) {
    case typeF32: return {1, 4, 4, 0};
    case typeF16:
    case typeBF16: return {1, 2, 2, 0};
    case typeQ4_0: return {32, 18, 16, 2};
    case typeQ8_0: return {32, 34, 32, 2};
    case typeQ4_K: return {256, 144, 144, 0};
    case typeQ5_K: return {256, 176, 176, 0};
    case typeQ6_K: return {256, 210, 208, 2};
    default: return {0, 0, 0, 0};
  }
}

bool isSupported(int32_t type, int64_t cols) {
  const BlockShape block = blockOf(type);
  return block.values > 0 && cols % block.values == 0;
}

DeviceBytes deviceBytes(int32_t type, int64_t rows, int64_t cols) {
  const BlockShape block = blockOf(type);
  const uint64_t blocks = static_cast<uint64_t>(rows) * (cols / block.values);
  return {blocks * block.quantBytes, blocks * block.scaleBytes};
}

void repackRows(int32_t type, int64_t rows, int64_t cols, const uint8_t* src, uint8_t* quants,
                uint8_t* scales) {
  const BlockShape block = blockOf(type);
  const int64_t blocks = rows * (cols / block.values);
  if (block.scaleBytes == 0) {
    std::memcpy(quants, src, blocks * block.fileBytes);
    return;
  }
  // The scale comes first in a Q4_0 or Q8_0 block, and last in one of Q6_K.
  const int64_t scaleAt = type == typeQ6_K ? 208 : 0, quantAt = type == typeQ6_K ? 0 : 2;
  for (int64_t i = 0; i < blocks; ++i, src += block.fileBytes) {
    std::memcpy(scales + 2 * i, src + scaleAt, 2);
    std::memcpy(quants + block.quantBytes * i, src + quantAt, block.quantBytes);
  }
}

}  // namespace quetzal::cuda
