// f16 and bf16 by hand, the plain twin of the hardware conversions.
//
// Everything in this header has internal linkage: files built for different
// instruction sets include it, and must not share one compiled copy.
#pragma once
#include <cstdint>
#include <cstring>

namespace quetzal {

static inline float floatOfBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

static inline uint32_t bitsOfFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

static inline float f16ToF32(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31u;
  const uint32_t fraction = half & 0x3ffu;
  if (exponent == 31) {
    // A signalling NaN comes back quiet, as the hardware does it.
    return floatOfBits(sign | 0x7f800000u | (fraction << 13) | (fraction ? 0x400000u : 0));
  }
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -magnitude : magnitude;
  }
  return floatOfBits(sign | ((exponent + 112) << 23) | (fraction << 13));
}

/// Rounds to nearest, ties to even.
static inline uint16_t f32ToF16(float value) {
  const uint32_t bits = bitsOfFloat(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x1ffu));
  }
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Below 2^-14 halves are multiples of 2^-24; adding 0.5 lets the float adder round.
    const float shifted = floatOfBits(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (bitsOfFloat(shifted) - 0x3f000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

static inline float bf16ToF32(uint16_t value) {
  return floatOfBits(static_cast<uint32_t>(value) << 16);
}

}  // namespace quetzal
