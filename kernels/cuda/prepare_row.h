// The forms of a row of activations that products read, made by the threads that hold the
// row's values.
//
// A block has a part of a row: all of it, or as many columns as it has threads. Thread t
// holds columns t, t + threads, .. of the part, so that a warp always holds 32 neighbours:
// what int8 forms need. Halves need the largest value of the row, so that a block that makes
// them has all of it.
#pragma once
#include "device.h"

namespace quetzal::cuda {

struct RowPart {
  int32_t row, begin, end;
};

/// Parts along x, rows along y.
static __device__ __forceinline__ RowPart ownPart(int32_t cols) {
  const auto threads = static_cast<int32_t>(blockDim.x);
  const int32_t begin = static_cast<int32_t>(blockIdx.x) * threads;
  const int32_t end = gridDim.x == 1 || begin + threads > cols ? cols : begin + threads;
  return {static_cast<int32_t>(blockIdx.y), begin, end};
}

/// What a thread holds of its part: the first `count` values in registers, the rest where
/// the kernel wrote it. A thread reads there only what it wrote itself.
template <int count>
class RowValues {
 public:
  explicit __device__ __forceinline__ RowValues(const RowPart& part)
      : begin_(part.begin + static_cast<int32_t>(threadIdx.x)), end_(part.end) {}

  /// `use(value, column)` for each in a register. Loads that need no earlier store in the
  /// same call run at once.
  template <typename Use>
  __device__ __forceinline__ void eachHeld(Use use) {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const int32_t column = begin_ + k * static_cast<int32_t>(blockDim.x);
      if (column < end_) use(held_[k], column);
    }
  }

  /// `use(column)` for each that is not.
  template <typename Use>
  __device__ __forceinline__ void eachBeyond(Use use) const {
    const auto threads = static_cast<int32_t>(blockDim.x);
    for (int32_t column = begin_ + count * threads; column < end_; column += threads) use(column);
  }

  /// Both; `row` is where the values beyond the registers lie.
  template <typename Use>
  __device__ __forceinline__ void each(const float* row, Use use) {
    eachHeld([&](float& value, int32_t column) { use(value, column); });
    eachBeyond([&](int32_t column) { use(row[column], column); });
  }

 private:
  const int32_t begin_, end_;
  float held_[count];
};

/// int8 with a scale for each 32, as Q8_0 defines it: the scale is rounded to f16, and is
/// NaN when a value is not finite. By a warp that holds the 32.
static __device__ __forceinline__ void prepareQuant(float value, int64_t at, const Prepared& x) {
  const int lane = threadIdx.x % 32;
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
  x.quants[at] = static_cast<int8_t>(quant);
  if (lane % 16 == 0) x.sums[at / 16] = sum;
  if (lane == 0) {
    x.scales[at / 32] = !allFinite ? bitsToFloat(0x7fc00000u)
        : isTiny                   ? 0.0f
                                   : halfToFloat(floatToHalf(largest / 127.0f));
  }
}

/// Halves, the row times a power of two that brings its largest value near 2^9.
template <int count>
static __device__ __forceinline__ void prepareHalves(RowValues<count>& values, const float* row,
                                                     int32_t rowIndex, int64_t at,
                                                     const Prepared& x, float* perWarp) {
  float largest = 0;
  values.each(row, [&](float value, int32_t) {
    const float magnitude = bitsToFloat(floatToBits(value) & 0x7fffffffu);
    // Not a number counts as infinite: either spoils the row's scale below.
    largest = magnitude > largest ? magnitude : magnitude != magnitude ? bitsToFloat(0x7f800000u)
                                                                       : largest;
  });
  largest = blockMax(largest, perWarp);
  const uint32_t found = floatToBits(largest) >> 23;
  const uint32_t exponent = found < 27 ? 27 : found > 253 ? 253 : found;
  const float power = bitsToFloat((263 - exponent) << 23);
  values.each(row, [&](float value, int32_t column) {
    x.halves[at + column] = floatToHalf(value * power);
  });
  if (threadIdx.x == 0) {
    x.rowScales[rowIndex] = found == 255 ? bitsToFloat(0x7fc00000u) : 1.0f / power;
  }
}

/// `row` is where `values` beyond the registers lie; `perWarp` is shared, one entry a warp.
template <int count>
static __device__ __forceinline__ void prepareRow(RowValues<count>& values, const float* row,
                                                  int32_t rowIndex, int32_t cols,
                                                  const Prepared& x, float* perWarp) {
  const int64_t at = static_cast<int64_t>(rowIndex) * cols;
  if (x.mode & preparesQuants) {
    // Whole warps: a part ends at a multiple of 32.
    values.each(row, [&](float value, int32_t column) { prepareQuant(value, at + column, x); });
  }
  if (x.mode & preparesHalves) prepareHalves(values, row, rowIndex, at, x, perWarp);
}

/// Calls `work` with as many registers as the part's columns ask for.
template <typename Work>
static __device__ __forceinline__ void withValues(const RowPart& part, Work work) {
  const auto threads = static_cast<int32_t>(blockDim.x);
  const int32_t each = (part.end - part.begin + threads - 1) / threads;
  if (each <= 1) {
    RowValues<1> values(part);
    work(values);
  } else if (each <= 4) {
    RowValues<4> values(part);
    work(values);
  } else {
    RowValues<rowHeldMax> values(part);
    work(values);
  }
}

}  // namespace quetzal::cuda
