// How GGUF stores the weight types that the kernels multiply with.
#pragma once
#include <cstdint>

namespace quetzal {

/// ggml type ids.
enum class WeightType : int32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  bf16 = 30,
  mxfp4 = 39,
};

/// A row is a run of blocks, each of `blockValues` values in `blockBytes` bytes.
struct WeightFormat {
  WeightType type;
  const char* name;
  int64_t blockValues, blockBytes;
};

constexpr WeightFormat weightFormats[] = {
    {WeightType::f32, "F32", 1, 4},          {WeightType::f16, "F16", 1, 2},
    {WeightType::bf16, "BF16", 1, 2},        {WeightType::q4_0, "Q4_0", 32, 18},
    {WeightType::q4_1, "Q4_1", 32, 20},      {WeightType::q5_0, "Q5_0", 32, 22},
    {WeightType::q5_1, "Q5_1", 32, 24},      {WeightType::q8_0, "Q8_0", 32, 34},
    {WeightType::iq4_nl, "IQ4_NL", 32, 18},  {WeightType::mxfp4, "MXFP4", 32, 17},
    {WeightType::q2_k, "Q2_K", 256, 84},     {WeightType::q3_k, "Q3_K", 256, 110},
    {WeightType::q4_k, "Q4_K", 256, 144},    {WeightType::q5_k, "Q5_K", 256, 176},
    {WeightType::q6_k, "Q6_K", 256, 210},    {WeightType::iq4_xs, "IQ4_XS", 256, 136},
};

/// Activations are quantized in blocks of this many values, and so are most weights.
constexpr int64_t quantBlock = 32;

/// Null for types that no kernel multiplies with.
static inline const WeightFormat* findFormat(int32_t type) {
  for (const WeightFormat& format : weightFormats) {
    if (static_cast<int32_t>(format.type) == type) return &format;
  }
  return nullptr;
}

static inline const WeightFormat& formatOf(WeightType type) {
  return *findFormat(static_cast<int32_t>(type));
}

static inline bool isKnown(int32_t type) { return findFormat(type) != nullptr; }

static inline bool isQuantized(WeightType type) { return formatOf(type).blockValues > 1; }

static inline int64_t rowBytes(WeightType type, int64_t cols) {
  const WeightFormat& format = formatOf(type);
  return cols / format.blockValues * format.blockBytes;
}

static inline const char* nameOf(WeightType type) { return formatOf(type).name; }

/// Whether a value is scale * code - minimum, instead of scale * (code - constant).
static constexpr bool hasMinimum(WeightType type) {
  return type == WeightType::q4_1 || type == WeightType::q5_1 || type == WeightType::q2_k ||
      type == WeightType::q4_k || type == WeightType::q5_k;
}

/// Values of 4-bit codes that stand for a table's entry: IQ4_NL, IQ4_XS and MXFP4
/// (twice the E2M1 values).
constexpr int8_t iq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
constexpr int8_t mxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace quetzal
