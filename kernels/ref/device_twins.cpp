#include "device_twins.h"

#include <cmath>
#include <cstring>

#include "../include/half.h"

namespace quetzal::ref {
namespace {

float halfOf(const uint8_t* at) {
  uint16_t half;
  std::memcpy(&half, at, 2);
  return f16ToF32(half);
}

/// Six-bit scale and minimum of sub-block `j`.
void scaleOf(const uint8_t* s, int64_t j, int& scale, int& minimum) {
  if (j < 4) {
    scale = s[j] & 63;
    minimum = s[j + 4] & 63;
  } else {
    scale = (s[j + 4] & 15) + 16 * (s[j - 4] >> 6);
    minimum = (s[j + 4] >> 4) + 16 * (s[j] >> 6);
  }
}

float valueQ45K(const uint8_t* b, int64_t i, bool hasFifthBit) {
  const int64_t j = i / 32;
  int scale, minimum;
  scaleOf(b + 4, j, scale, minimum);
  const uint8_t* quants = b + (hasFifthBit ? 48 : 16);
  int q = quants[32 * (i / 64) + i % 32] >> (4 * (j % 2)) & 15;
  if (hasFifthBit) q += 16 * (b[16 + i % 32] >> j & 1);
  return halfOf(b) * static_cast<float>(scale) * static_cast<float>(q) -
      halfOf(b + 2) * static_cast<float>(minimum);
}

float valueQ6K(const uint8_t* b, int64_t i) {
  const int64_t h = i / 128, k = i % 128 / 32, l = i % 32;
  const int low = b[64 * h + 32 * (k % 2) + l] >> (4 * (k / 2)) & 15;
  const int high = b[128 + 32 * h + l] >> (2 * k) & 3;
  const int scale = static_cast<int8_t>(b[192 + i / 16]);
  return halfOf(b + 208) * static_cast<float>(scale) * static_cast<float>(low + 16 * high - 32);
}

}  // namespace

int64_t storedRowBytes(int32_t type, int64_t cols) {
  switch (type) {
    case 0: return cols * 4;
    case 1:
    case 30: return cols * 2;
    case 2: return cols / 32 * 18;
    case 8: return cols / 32 * 34;
    case 12: return cols / 256 * 144;
    case 13: return cols / 256 * 176;
    case 14: return cols / 256 * 210;
    default: return 0;
  }
}

float storedValue(int32_t type, const uint8_t* row, int64_t col) {
  const int64_t i = col % 32;
  float value = NAN;
  uint16_t half;
  switch (type) {
    case 0: std::memcpy(&value, row + 4 * col, 4); return value;
    case 1: return halfOf(row + 2 * col);
    case 30:
      std::memcpy(&half, row + 2 * col, 2);
      return bf16ToF32(half);
    case 2:
      row += col / 32 * 18;
      return halfOf(row) * static_cast<float>((row[2 + i % 16] >> (4 * (i / 16)) & 15) - 8);
    case 8:
      row += col / 32 * 34;
      return halfOf(row) * static_cast<float>(static_cast<int8_t>(row[2 + i]));
    case 12: return valueQ45K(row + col / 256 * 144, col % 256, false);
    case 13: return valueQ45K(row + col / 256 * 176, col % 256, true);
    case 14: return valueQ6K(row + col / 256 * 210, col % 256);
    default: return value;
  }
}

ProductTwin storedProduct(int32_t type, const uint8_t* weight, int64_t cols, int64_t n,
                          const double* x) {
  const uint8_t* row = weight + n * storedRowBytes(type, cols);
  double value = 0, weightSquares = 0, xSquares = 0;
  for (int64_t k = 0; k < cols; ++k) {
    const double w = storedValue(type, row, k);
    value += w * x[k];
    weightSquares += w * w;
    xSquares += x[k] * x[k];
  }
  return {value, std::sqrt(weightSquares * xSquares)};
}

int32_t acceptedDrafts(const int32_t* tokens, const int32_t* drafts, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    if (tokens[i] != drafts[i]) return i;
  }
  return count;
}

}  // namespace quetzal::ref
