// Sixteen lanes on AVX-512 (F, BW, VL, DQ, VNNI), as one register; the same
// names as simd_avx2.h, which explains them.
//
// With QUETZAL_EMULATE the intrinsics come from SIMD Everywhere, so that the
// source can be tested on a machine without AVX-512 (kernels/README.md).
#pragma once
#ifdef QUETZAL_EMULATE
#include "../bench/avx512_emulated.h"
#else
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace {

struct vf { __m512 v; };
struct vi { __m512i v; };

inline vf vfSet(float x) { return {_mm512_set1_ps(x)}; }
inline vf vfLoad(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void vfStore(float* p, vf v) { _mm512_storeu_ps(p, v.v); }
inline vf vfAdd(vf x, vf y) { return {_mm512_add_ps(x.v, y.v)}; }
inline vf vfSub(vf x, vf y) { return {_mm512_sub_ps(x.v, y.v)}; }
inline vf vfMul(vf x, vf y) { return {_mm512_mul_ps(x.v, y.v)}; }
inline vf vfDiv(vf x, vf y) { return {_mm512_div_ps(x.v, y.v)}; }
inline vf vfFma(vf x, vf y, vf z) { return {_mm512_fmadd_ps(x.v, y.v, z.v)}; }
inline vf vfMax(vf x, vf y) { return {_mm512_max_ps(x.v, y.v)}; }
inline vf vfMin(vf x, vf y) { return {_mm512_min_ps(x.v, y.v)}; }
inline vf vfAbs(vf x) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x.v), magnitude))};
}
inline vf vfZeroBelow(vf v, vf x, float limit) {
  const __mmask16 below = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(limit), _CMP_LT_OQ);
  return {_mm512_maskz_mov_ps(static_cast<__mmask16>(~below), v.v)};
}
/// A bit for each lane that is at least `limit`.
inline uint32_t vfMaskAtLeast(vf v, float limit) {
  return _mm512_cmp_ps_mask(v.v, _mm512_set1_ps(limit), _CMP_GE_OQ);
}
/// v in the first `count` lanes, `fill` in the others
inline vf vfKeepFirst(vf v, int64_t count, float fill) {
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  return {_mm512_mask_mov_ps(_mm512_set1_ps(fill), mask, v.v)};
}
inline __m256 lowHalf(__m512 v) { return _mm512_castps512_ps256(v); }
inline __m256 highHalf(__m512 v) {
  return _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(v), 1));
}
inline float vfSum(vf v) {
  const __m256 s8 = _mm256_add_ps(lowHalf(v.v), highHalf(v.v));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
inline float vfMaxLane(vf v) {
  const __m256 s8 = _mm256_max_ps(lowHalf(v.v), highHalf(v.v));
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}
inline float vfFirst(vf v) { return _mm_cvtss_f32(_mm512_castps512_ps128(v.v)); }

inline vf vfLoadF16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline void vfStoreF16(uint16_t* p, vf v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(v.v, _MM_FROUND_TO_NEAREST_INT));
}
inline vf vfLoadBf16(const uint16_t* p) {
  const __m512i wide =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}

inline vi viRound(vf v) { return {_mm512_cvtps_epi32(v.v)}; }
inline vi viTruncate(vf v) { return {_mm512_cvttps_epi32(v.v)}; }
inline vf viToFloat(vi v) { return {_mm512_cvtepi32_ps(v.v)}; }
inline vi viAdd(vi x, vi y) { return {_mm512_add_epi32(x.v, y.v)}; }
inline vf viPow2(vi n) {
  const __m512i biased = _mm512_add_epi32(n.v, _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
}
inline int32_t viSum(vi v) { return _mm512_reduce_add_epi32(v.v); }
inline void viStoreI8(int8_t* p, vi v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(v.v));
}

inline vi viLoad(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline vi viBroadcast(const int32_t* p) { return {_mm512_set1_epi32(*p)}; }
inline vf vfBroadcast(const float* p) { return {_mm512_set1_ps(*p)}; }
inline vf vfFromU8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))};
}
inline vf vfFromI8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
inline vi viLoadU8(const uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline vi viShiftRight(vi v) { return {_mm512_srli_epi32(v.v, 1)}; }
inline vi viSub(vi x, vi y) { return {_mm512_sub_epi32(x.v, y.v)}; }
inline vi viSet(int32_t x) { return {_mm512_set1_epi32(x)}; }

/// out[j][i] = in[i][j]
inline void transpose16(const vf (&in)[16], float* out) {
  __m512i a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const __m512i even = _mm512_castps_si512(in[2 * i].v), odd = _mm512_castps_si512(in[2 * i + 1].v);
    b[2 * i] = _mm512_unpacklo_epi32(even, odd);
    b[2 * i + 1] = _mm512_unpackhi_epi32(even, odd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      a[4 * i + 2 * j] = _mm512_unpacklo_epi64(b[4 * i + j], b[4 * i + 2 + j]);
      a[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(b[4 * i + j], b[4 * i + 2 + j]);
    }
  }
  // Lane l of a[4 i + c] holds rows 4 i..4 i + 3 of column 4 l + c.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i low0 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88);
    const __m512i high0 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
    const __m512i low1 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
    const __m512i high1 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
    _mm512_storeu_si512(out + c * 16, _mm512_shuffle_i32x4(low0, low1, 0x88));
    _mm512_storeu_si512(out + (8 + c) * 16, _mm512_shuffle_i32x4(low0, low1, 0xdd));
    _mm512_storeu_si512(out + (4 + c) * 16, _mm512_shuffle_i32x4(high0, high1, 0x88));
    _mm512_storeu_si512(out + (12 + c) * 16, _mm512_shuffle_i32x4(high0, high1, 0xdd));
  }
}

/// 64 bytes: four adjacent k of each of sixteen outputs.
struct vb { __m512i v; };
inline vb vbLoad(const uint8_t* p) { return {_mm512_load_si512(p)}; }
inline void vbStore(uint8_t* p, vb x) { _mm512_store_si512(p, x.v); }
inline vb vbAnd(vb x, int mask) {
  return {_mm512_and_si512(x.v, _mm512_set1_epi8(static_cast<char>(mask)))};
}
inline vb vbOr(vb x, vb y) { return {_mm512_or_si512(x.v, y.v)}; }
inline vb vbSub(vb x, int byte) {
  return {_mm512_sub_epi8(x.v, _mm512_set1_epi8(static_cast<char>(byte)))};
}
/// Bits move within pairs of bytes: mask what comes from the neighbour.
template <int n>
inline vb vbShiftLeft(vb x) {
  if constexpr (n >= 0) return {_mm512_slli_epi16(x.v, n)};
  else return {_mm512_srli_epi16(x.v, -n)};
}
/// table[x] + offset for x in 0..15
inline vb vbLookup(const int8_t* table, int offset, vb x) {
  const __m128i row = _mm_add_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)),
                                   _mm_set1_epi8(static_cast<char>(offset)));
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(row), x.v)};
}

/// What is added to codes of eight bits, for VNNI wants weights unsigned.
constexpr int wideOffset = 128;
inline vb vbWide(vb x) {
  return {_mm512_xor_si512(x.v, _mm512_set1_epi8(static_cast<char>(0x80)))};
}

/// acc + the products of four groups w with the int8 at x, x + stride, ...
template <int codeBits>
inline vi dotQuad(vi acc, const vb* w, const int8_t* x, int64_t stride) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    int32_t word;
    std::memcpy(&word, x + i * stride, 4);
    acc.v = _mm512_dpbusd_epi32(acc.v, w[i].v, _mm512_set1_epi32(word));
  }
  return acc;
}

/// What attention sums for four queries at once: see attention.inc.
constexpr int runsTogether = 4, partsTogether = 4;

/// How far ahead of the products a weight is asked for: what comes in the time of one read.
constexpr int64_t aheadBytes = 6144;

/// Rows from which it pays to unpack panels to bytes, two at a time.
constexpr int64_t unpackRows = 64;
/// Whether it does for panels that are bytes already: two panels share a broadcast.
constexpr bool unpacksBytes = true;

/// Rows per tile of the matmuls: what the registers hold, or a tile of AMX.
#ifdef QUETZAL_AMX
constexpr int tileRows = 16, floatTileRows = 8;
#else
constexpr int tileRows = 8, floatTileRows = 8;
#endif

}  // namespace
