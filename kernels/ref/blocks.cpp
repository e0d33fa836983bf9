// One function per format, offsets in bytes as ggml lays them out.
#include "blocks.h"

#include <cstring>

#include "../include/half.h"

namespace quetzal::ref {
namespace {

float halfAt(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, 2);
  return f16ToF32(half);
}

/// Of 32 codes, byte j holds code j in its low and code j + 16 in its high half.
int32_t nibble(const uint8_t* p, int i) { return p[i % 16] >> 4 * (i / 16) & 15; }

int32_t bit(const uint8_t* p, int i) { return p[i / 8] >> i % 8 & 1; }

/// 2^(e - 128): the tables of values hold twice what they mean.
float e8m0Half(uint8_t e) {
  return floatOfBits(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

Block symmetric(float scale) { return {{}, 32, {scale, scale}, {0, 0}}; }

Block q4(const uint8_t* in, bool hasMin) {
  Block out = symmetric(halfAt(in));
  if (hasMin) out.min[0] = out.min[1] = -halfAt(in + 2);
  for (int i = 0; i < 32; ++i) out.quants[i] = nibble(in + (hasMin ? 4 : 2), i) - (hasMin ? 0 : 8);
  return out;
}

Block q5(const uint8_t* in, bool hasMin) {
  Block out = symmetric(halfAt(in));
  if (hasMin) out.min[0] = out.min[1] = -halfAt(in + 2);
  const uint8_t* high = in + (hasMin ? 4 : 2);
  for (int i = 0; i < 32; ++i) {
    out.quants[i] = (nibble(high + 4, i) | bit(high, i) << 4) - (hasMin ? 0 : 16);
  }
  return out;
}

Block q8(const uint8_t* in) {
  Block out = symmetric(halfAt(in));
  for (int i = 0; i < 32; ++i) out.quants[i] = static_cast<int8_t>(in[2 + i]);
  return out;
}

Block table4(float scale, const uint8_t* codes, const int8_t* values) {
  Block out = symmetric(scale);
  for (int i = 0; i < 32; ++i) out.quants[i] = values[nibble(codes, i)];
  return out;
}

Block q2k(const uint8_t* in, int j) {
  const float d = halfAt(in + 80), dmin = halfAt(in + 82);
  Block out = {{}, 16, {}, {}};
  for (int half = 0; half < 2; ++half) {
    const uint8_t s = in[2 * j + half];
    out.scale[half] = d * static_cast<float>(s & 15);
    out.min[half] = dmin * static_cast<float>(s >> 4);
  }
  for (int i = 0; i < 32; ++i) out.quants[i] = in[16 + 32 * (j / 4) + i] >> 2 * (j % 4) & 3;
  return out;
}

Block q3k(const uint8_t* in, int j) {
  const uint8_t* packed = in + 96;
  Block out = {{}, 16, {}, {0, 0}};
  for (int half = 0; half < 2; ++half) {
    const int s = 2 * j + half;
    const int low = s < 8 ? packed[s] & 15 : packed[s - 8] >> 4;
    const int high = packed[8 + s % 4] >> 2 * (s / 4) & 3;
    out.scale[half] = halfAt(in + 108) * static_cast<float>(low + 16 * high - 32);
  }
  for (int i = 0; i < 32; ++i) {
    const int low = in[32 + 32 * (j / 4) + i] >> 2 * (j % 4) & 3;
    out.quants[i] = low + 4 * (in[i] >> j & 1) - 4;
  }
  return out;
}

/// Q4_K and Q5_K: six-bit scales and minimums of eight blocks in twelve bytes.
Block q45k(const uint8_t* in, int j, bool isQ5) {
  const uint8_t* s = in + 4;
  const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
  const int min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
  Block out = symmetric(halfAt(in) * static_cast<float>(scale));
  out.min[0] = out.min[1] = halfAt(in + 2) * static_cast<float>(min);
  const uint8_t* codes = in + (isQ5 ? 48 : 16);
  for (int i = 0; i < 32; ++i) {
    out.quants[i] = codes[32 * (j / 2) + i] >> 4 * (j % 2) & 15;
    if (isQ5) out.quants[i] |= (in[16 + i] >> j & 1) << 4;
  }
  return out;
}

Block q6k(const uint8_t* in, int j) {
  Block out = {{}, 16, {}, {0, 0}};
  for (int half = 0; half < 2; ++half) {
    out.scale[half] =
        halfAt(in + 208) * static_cast<float>(static_cast<int8_t>(in[192 + 2 * j + half]));
  }
  const int h = j / 4, k = j % 4;
  for (int i = 0; i < 32; ++i) {
    const int low = in[64 * h + 32 * (k % 2) + i] >> 4 * (k / 2) & 15;
    out.quants[i] = (low | (in[128 + 32 * h + i] >> 2 * k & 3) << 4) - 32;
  }
  return out;
}

Block iq4xs(const uint8_t* in, int j) {
  const int high = (in[2] | in[3] << 8) >> 2 * j & 3;
  const int scale = (in[4 + j / 2] >> 4 * (j % 2) & 15) + 16 * high - 32;
  return table4(halfAt(in) * static_cast<float>(scale), in + 8 + 16 * j, iq4Values);
}

}  // namespace

Block decodeBlock(WeightType type, const uint8_t* row, int64_t block) {
  const WeightFormat& format = formatOf(type);
  const int64_t perBlock = format.blockValues / 32;
  const uint8_t* in = row + block / perBlock * format.blockBytes;
  const int j = static_cast<int>(block % perBlock);
  switch (type) {
    case WeightType::q4_0: return q4(in, false);
    case WeightType::q4_1: return q4(in, true);
    case WeightType::q5_0: return q5(in, false);
    case WeightType::q5_1: return q5(in, true);
    case WeightType::q8_0: return q8(in);
    case WeightType::iq4_nl: return table4(halfAt(in), in + 2, iq4Values);
    case WeightType::mxfp4: return table4(e8m0Half(in[0]), in + 1, mxfp4Values);
    case WeightType::q2_k: return q2k(in, j);
    case WeightType::q3_k: return q3k(in, j);
    case WeightType::q4_k: return q45k(in, j, false);
    case WeightType::q5_k: return q45k(in, j, true);
    case WeightType::q6_k: return q6k(in, j);
    case WeightType::iq4_xs: return iq4xs(in, j);
    case WeightType::f32:
    case WeightType::f16:
    case WeightType::bf16: break;
  }
  return {};
}

}  // namespace quetzal::ref
