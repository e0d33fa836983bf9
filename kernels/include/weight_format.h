// How GGUF stores the weight types that the kernels multiply with.
#pragma once
#include <cstdint>

namespace quetzal {

/// ggml type ids.
enum class WeightType : int32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, bf16 = 30 };

/// Values that share one scale, and bytes of such a block:
/// Q8_0 is f16 scale, 32 x int8; Q4_0 is f16 scale, 16 bytes whose low nibbles
/// are values 0..15 and whose high nibbles are values 16..31, each minus 8.
constexpr int64_t quantBlock = 32;
constexpr int64_t q8BlockBytes = 34;
constexpr int64_t q4BlockBytes = 18;

static inline bool isKnown(int32_t type) {
  return type == 0 || type == 1 || type == 2 || type == 8 || type == 30;
}

static inline bool isQuantized(WeightType type) {
  return type == WeightType::q8_0 || type == WeightType::q4_0;
}

static inline int64_t rowBytes(WeightType type, int64_t cols) {
  switch (type) {
    case WeightType::f32: return cols * 4;
    case WeightType::f16:
    case WeightType::bf16: return cols * 2;
    case WeightType::q8_0: return cols / quantBlock * q8BlockBytes;
    case WeightType::q4_0: return cols / quantBlock * q4BlockBytes;
  }
  return 0;
}

static inline const char* nameOf(WeightType type) {
  switch (type) {
    case WeightType::f32: return "F32";
    case WeightType::f16: return "F16";
    case WeightType::bf16: return "BF16";
    case WeightType::q8_0: return "Q8_0";
    case WeightType::q4_0: return "Q4_0";
  }
  return "unknown";
}

}  // namespace quetzal
