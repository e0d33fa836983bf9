// The forms of a row of activations that products read, made by the block that has just
// written the row.
#pragma once
#include "device.h"

namespace quetzal::cuda {

constexpr int rowThreads = 256;

/// int8 with a scale for each 32, as Q8_0 defines it: the scale is rounded to f16, and is
/// NaN when a value is not finite.
static __device__ __forceinline__ void prepareQuants(const float* row, int32_t cols, int64_t at,
                                                     const Prepared& x) {
  const int lane = threadIdx.x % 32;
  for (int block = threadIdx.x / 32; block < cols / 32; block += blockDim.x / 32) {
    const float value = row[32 * block + lane];
    const bool isFinite = (floatToBits(value) & 0x7f800000u) != 0x7f800000u;
    float largest = value < 0 ? -value : value;
    for (int offset = 16; offset > 0; offset >>= 1) {
      const float other = __shfl_xor_sync(allLanes, largest, offset);
      largest = other > largest ? other : largest;
    }
    const bool allFinite = __all_sync(allLanes, isFinite);
    const bool isTiny = largest < 1e-30f;
    const float inverse = isTiny ? 0.0f : 127.0f / largest;
    const int quant = allFinite ? static_cast<int>(rintf(value * inverse)) : 0;
    int sum = quant;
    for (int offset = 8; offset > 0; offset >>= 1) sum += __shfl_xor_sync(allLanes, sum, offset);
    x.quants[at + 32 * block + lane] = static_cast<int8_t>(quant);
    if (lane % 16 == 0) x.sums[(at + 32 * block + lane) / 16] = sum;
    if (lane == 0) {
      x.scales[at / 32 + block] = !allFinite ? bitsToFloat(0x7fc00000u)
          : isTiny                           ? 0.0f
                                             : halfToFloat(floatToHalf(largest / 127.0f));
    }
  }
}

/// Halves, the row times a power of two that brings its largest value near 2^9.
static __device__ __forceinline__ void prepareHalves(const float* row, int32_t rowIndex,
                                                     int32_t cols, int64_t at, const Prepared& x,
                                                     float* perWarp) {
  float largest = 0;
  for (int i = threadIdx.x; i < cols; i += blockDim.x) {
    const float magnitude = bitsToFloat(floatToBits(row[i]) & 0x7fffffffu);
    // Not a number counts as infinite: either spoils the row's scale below.
    largest = magnitude > largest ? magnitude : magnitude != magnitude ? bitsToFloat(0x7f800000u)
                                                                       : largest;
  }
  largest = blockMax(largest, perWarp);
  const uint32_t found = floatToBits(largest) >> 23;
  const uint32_t exponent = found < 27 ? 27 : found > 253 ? 253 : found;
  const float power = bitsToFloat((263 - exponent) << 23);
  for (int i = threadIdx.x; i < cols; i += blockDim.x) x.halves[at + i] = floatToHalf(row[i] * power);
  if (threadIdx.x == 0) {
    x.rowScales[rowIndex] = found == 255 ? bitsToFloat(0x7fc00000u) : 1.0f / power;
  }
}

/// `row` was written by this block before a barrier.
static __device__ __forceinline__ void prepareRow(const float* row, int32_t rowIndex, int32_t cols,
                                                  const Prepared& x, float* perWarp) {
  const int64_t at = static_cast<int64_t>(rowIndex) * cols;
  if (x.mode & preparesQuants) prepareQuants(row, cols, at, x);
  if (x.mode & preparesHalves) prepareHalves(row, rowIndex, cols, at, x, perWarp);
}

}  // namespace quetzal::cuda
