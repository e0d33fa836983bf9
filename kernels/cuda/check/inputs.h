// Random weights and prepared activations for cases.
#pragma once
#include "../../addon/cuda_repack.h"
#include "../../include/half.h"
#include "../../ref/device_twins.h"
#include "check.h"

namespace quetzal::cuda {

static inline const char* typeName(int32_t type) {
  switch (type) {
    case typeF32: return "F32";
    case typeF16: return "F16";
    case typeBF16: return "BF16";
    case typeQ4_0: return "Q4_0";
    case typeQ8_0: return "Q8_0";
    case typeQ4_K: return "Q4_K";
    case typeQ5_K: return "Q5_K";
    case typeQ6_K: return "Q6_K";
    default: return "?";
  }
}

static inline void putHalf(uint8_t* at, double value) {
  const uint16_t half = f32ToF16(static_cast<float>(value));
  std::memcpy(at, &half, 2);
}

/// Bytes of a weight as a file has them: any quants, sensible scales.
static inline std::vector<uint8_t> randomWeight(Random& random, int32_t type, int64_t rows,
                                                int64_t cols) {
  const int64_t bytes = ref::storedRowBytes(type, cols) * rows;
  std::vector<uint8_t> data(bytes);
  const BlockShape block = blockOf(type);
  if (isPlainType(type)) {
    for (int64_t i = 0; i < rows * cols; ++i) {
      const auto value = static_cast<float>(normal(random) * 0.05);
      const uint32_t bits = bitsOfFloat(value);
      if (type == typeF32) std::memcpy(&data[4 * i], &value, 4);
      if (type == typeF16) putHalf(&data[2 * i], value);
      if (type == typeBF16) {
        data[2 * i] = static_cast<uint8_t>(bits >> 16);
        data[2 * i + 1] = static_cast<uint8_t>(bits >> 24);
      }
    }
    return data;
  }
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
  for (int64_t at = 0; at < bytes; at += block.fileBytes) {
    const double scale = std::uniform_real_distribution<double>(-0.01, 0.01)(random);
    putHalf(&data[at + (type == typeQ6_K ? 208 : 0)], scale);
    if (type == typeQ4_K || type == typeQ5_K) {
      putHalf(&data[at + 2], std::uniform_real_distribution<double>(-0.01, 0.01)(random));
    }
  }
  return data;
}

static inline DeviceMatrix giveMatrix(Arrays& arrays, int32_t type, int64_t rows, int64_t cols,
                                      const std::vector<uint8_t>& file) {
  const DeviceBytes bytes = deviceBytes(type, rows, cols);
  std::vector<uint8_t> quants(bytes.quants), scales(bytes.scales);
  repackRows(type, rows, cols, file.data(), quants.data(), scales.data());
  return {arrays.give(quants), bytes.scales > 0 ? arrays.give(scales) : nullptr, type,
          static_cast<int32_t>(rows), static_cast<int32_t>(cols)};
}

static inline Prepared makePrepared(Arrays& arrays, int64_t rows, int64_t cols, int32_t mode) {
  Prepared x = {};
  x.mode = mode;
  if (mode & preparesQuants) {
    x.quants = arrays.make<int8_t>(rows * cols);
    x.scales = arrays.make<float>(rows * (cols / 32));
    x.sums = arrays.make<int32_t>(rows * (cols / 16));
  }
  if (mode & preparesHalves) {
    x.halves = arrays.make<uint16_t>(rows * cols);
    x.rowScales = arrays.make<float>(rows);
  }
  return x;
}

/// What the prepared form stands for, row-major.
static inline std::vector<double> valuesOf(Arrays& arrays, const Prepared& x, int64_t rows,
                                           int64_t cols, const std::vector<float>& plain) {
  std::vector<double> values(plain.begin(), plain.end());
  if (x.mode & preparesQuants) {
    const auto quants = arrays.take(x.quants, rows * cols);
    const auto scales = arrays.take(x.scales, rows * (cols / 32));
    for (int64_t i = 0; i < rows * cols; ++i) values[i] = double{scales[i / 32]} * quants[i];
  } else if (x.mode & preparesHalves) {
    const auto halves = arrays.take(x.halves, rows * cols);
    const auto scales = arrays.take(x.rowScales, rows);
    for (int64_t i = 0; i < rows * cols; ++i) {
      values[i] = double{scales[i / cols]} * f16ToF32(halves[i]);
    }
  }
  return values;
}

/// Makes the prepared forms of `a` by the kernel that does it alone.
static inline void prepare(Arrays& arrays, const float* a, const Prepared& x, int32_t rows,
                           int32_t cols) {
  if (x.mode == 0) return;
  const ElementwiseArgs args = {a, nullptr, nullptr, x, rows, cols};
  launchAndWait(arrays.gpu(), launchOf(args), args);
}

/// Largest of |found - wanted| over what is usual for `wanted`; infinite for NaN.
static inline double worse(double worst, double found, double wanted, double usual) {
  if (found == wanted) return worst;
  const double error = std::fabs(found - wanted) / usual;
  return error <= worst ? worst : error == error ? error : INFINITY;
}

}  // namespace quetzal::cuda
