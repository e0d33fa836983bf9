// Sixteen lanes on AVX2, as two registers of eight.
//
// The vector kernels (*.inc) are written once over these names; simd_avx512.h
// offers the same ones on a single register. Both do the same operation in the
// same lane and reduce by the same tree, so both give the same bits.
//
// Internal linkage throughout: nothing compiled with these flags may be picked
// by the linker for a machine without them.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

struct vf { __m256 a, b; };   // 16 x f32
struct vi { __m256i a, b; };  // 16 x i32

inline vf vfSet(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline vf vfLoad(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void vfStore(float* p, vf v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
inline vf vfAdd(vf x, vf y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline vf vfSub(vf x, vf y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline vf vfMul(vf x, vf y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline vf vfDiv(vf x, vf y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
/// x * y + z, rounded once
inline vf vfFma(vf x, vf y, vf z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
/// Gives y where either is NaN.
inline vf vfMax(vf x, vf y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline vf vfMin(vf x, vf y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline vf vfAbs(vf x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
/// v, but +0 in the lanes where x < limit
inline vf vfZeroBelow(vf v, vf x, float limit) {
  const __m256 l = _mm256_set1_ps(limit);
  return {_mm256_andnot_ps(_mm256_cmp_ps(x.a, l, _CMP_LT_OQ), v.a),
          _mm256_andnot_ps(_mm256_cmp_ps(x.b, l, _CMP_LT_OQ), v.b)};
}
inline float vfSum(vf v) {
  const __m256 s8 = _mm256_add_ps(v.a, v.b);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
inline float vfMaxLane(vf v) {
  const __m256 s8 = _mm256_max_ps(v.a, v.b);
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}
/// A bit for each lane that is at least `limit`.
inline uint32_t vfMaskAtLeast(vf v, float limit) {
  const __m256 l = _mm256_set1_ps(limit);
  const int a = _mm256_movemask_ps(_mm256_cmp_ps(v.a, l, _CMP_GE_OQ));
  const int b = _mm256_movemask_ps(_mm256_cmp_ps(v.b, l, _CMP_GE_OQ));
  return static_cast<uint32_t>(a | b << 8);
}
/// v in the first `count` lanes, `fill` in the others
inline vf vfKeepFirst(vf v, int64_t count, float fill) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i limit = _mm256_set1_epi32(static_cast<int32_t>(count));
  const __m256i a = _mm256_cmpgt_epi32(limit, lanes);
  const __m256i b = _mm256_cmpgt_epi32(limit, _mm256_add_epi32(lanes, _mm256_set1_epi32(8)));
  const __m256 other = _mm256_set1_ps(fill);
  return {_mm256_blendv_ps(other, v.a, _mm256_castsi256_ps(a)),
          _mm256_blendv_ps(other, v.b, _mm256_castsi256_ps(b))};
}
inline float vfFirst(vf v) { return _mm256_cvtss_f32(v.a); }

inline vf vfLoadF16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline void vfStoreF16(uint16_t* p, vf v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8),
                   _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}
inline __m256 bf16Half(const uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline vf vfLoadBf16(const uint16_t* p) { return {bf16Half(p), bf16Half(p + 8)}; }

inline vi viRound(vf v) { return {_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b)}; }
/// Towards zero.
inline vi viTruncate(vf v) { return {_mm256_cvttps_epi32(v.a), _mm256_cvttps_epi32(v.b)}; }
inline vf viToFloat(vi v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
inline vi viAdd(vi x, vi y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
/// 2^n for n in -126..127
inline __m256 pow2Half(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
inline vf viPow2(vi n) { return {pow2Half(n.a), pow2Half(n.b)}; }
inline int32_t viSum(vi v) {
  const __m256i s8 = _mm256_add_epi32(v.a, v.b);
  const __m128i s4 = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
  const __m128i s2 = _mm_add_epi32(s4, _mm_shuffle_epi32(s4, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s2, _mm_shuffle_epi32(s2, 0xb1)));
}
/// Stores as int8 with saturation.
inline void viStoreI8(int8_t* p, vi v) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xd8);
  const __m128i bytes =
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

inline vi viBroadcast(const int32_t* p) {
  return {_mm256_set1_epi32(*p), _mm256_set1_epi32(*p)};
}
inline vf vfBroadcast(const float* p) { return vfSet(*p); }
inline vi viLoadU8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
inline vf vfFromU8(const uint8_t* p) { return viToFloat(viLoadU8(p)); }
inline vf vfFromI8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
inline vi viShiftRight(vi v) { return {_mm256_srli_epi32(v.a, 1), _mm256_srli_epi32(v.b, 1)}; }
inline vi viSub(vi x, vi y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
inline vi viSet(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }

/// Eight rows and columns to `out`, whose rows are 16 apart.
inline void transpose8(const __m256 (&in)[8], float* out) {
  __m256 a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm256_unpacklo_ps(in[2 * i], in[2 * i + 1]);
    b[2 * i + 1] = _mm256_unpackhi_ps(in[2 * i], in[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      a[4 * i + 2 * j] = _mm256_shuffle_ps(b[4 * i + j], b[4 * i + 2 + j], 0x44);
      a[4 * i + 2 * j + 1] = _mm256_shuffle_ps(b[4 * i + j], b[4 * i + 2 + j], 0xee);
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    _mm256_storeu_ps(out + c * 16, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
    _mm256_storeu_ps(out + (4 + c) * 16, _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
  }
}
/// out[j][i] = in[i][j]
inline void transpose16(const vf (&in)[16], float* out) {
#pragma GCC unroll 2
  for (int i = 0; i < 16; i += 8) {
    __m256 left[8], right[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      left[j] = in[i + j].a;
      right[j] = in[i + j].b;
    }
    transpose8(left, out + i);
    transpose8(right, out + 8 * 16 + i);
  }
}

/// 64 bytes: four adjacent k of each of sixteen outputs.
struct vb { __m256i a, b; };
inline vb vbLoad(const uint8_t* p) {
  return {_mm256_load_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 32))};
}
inline void vbStore(uint8_t* p, vb x) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(p), x.a);
  _mm256_store_si256(reinterpret_cast<__m256i*>(p + 32), x.b);
}
inline vb vbAnd(vb x, int mask) {
  const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
  return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
inline vb vbOr(vb x, vb y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
inline vb vbSub(vb x, int byte) {
  const __m256i b = _mm256_set1_epi8(static_cast<char>(byte));
  return {_mm256_sub_epi8(x.a, b), _mm256_sub_epi8(x.b, b)};
}
/// Bits move within pairs of bytes: mask what comes from the neighbour.
template <int n>
inline vb vbShiftLeft(vb x) {
  if constexpr (n >= 0) return {_mm256_slli_epi16(x.a, n), _mm256_slli_epi16(x.b, n)};
  else return {_mm256_srli_epi16(x.a, -n), _mm256_srli_epi16(x.b, -n)};
}
/// table[x] + offset for x in 0..15
inline vb vbLookup(const int8_t* table, int offset, vb x) {
  const __m128i row = _mm_add_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)),
                                   _mm_set1_epi8(static_cast<char>(offset)));
  const __m256i both = _mm256_broadcastsi128_si256(row);
  return {_mm256_shuffle_epi8(both, x.a), _mm256_shuffle_epi8(both, x.b)};
}

/// What is added to codes of eight bits: they stay signed here.
constexpr int wideOffset = 0;
inline vb vbWide(vb x) { return x; }

/// acc + the products of four groups w with the int8 at x, x + stride, ...
///
/// AVX2 multiplies unsigned with signed bytes and adds pairs to 16 bits. Codes of up
/// to six bits are unsigned; as many pairs are added there as fit: 4 * 2 * 31 * 127
/// for five bits, half as many for six. Codes of eight bits are signed: |w| times x
/// with w's sign is exact, for 128 * 127 * 2 fits once.
template <int codeBits>
inline __m256i dotQuadHalf(__m256i acc, const __m256i* w, const int8_t* x, int64_t stride) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i pairs[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    int32_t word;
    std::memcpy(&word, x + i * stride, 4);
    const __m256i x4 = _mm256_set1_epi32(word);
    pairs[i] = codeBits == 8
        ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[i]), _mm256_sign_epi8(x4, w[i]))
        : _mm256_maddubs_epi16(w[i], x4);
  }
  if constexpr (codeBits == 8) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs[i], ones));
    return acc;
  }
  const __m256i left = _mm256_add_epi16(pairs[0], pairs[1]);
  const __m256i right = _mm256_add_epi16(pairs[2], pairs[3]);
  if constexpr (codeBits <= 5) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_add_epi16(left, right), ones));
  }
  return _mm256_add_epi32(
      acc, _mm256_add_epi32(_mm256_madd_epi16(left, ones), _mm256_madd_epi16(right, ones)));
}
template <int codeBits>
inline vi dotQuad(vi acc, const vb* w, const int8_t* x, int64_t stride) {
  const __m256i a[4] = {w[0].a, w[1].a, w[2].a, w[3].a};
  const __m256i b[4] = {w[0].b, w[1].b, w[2].b, w[3].b};
  return {dotQuadHalf<codeBits>(acc.a, a, x, stride), dotQuadHalf<codeBits>(acc.b, b, x, stride)};
}

/// What attention sums for four queries at once: runs of sixteen tokens, and parts of
/// sixteen dims.
constexpr int runsTogether = 1, partsTogether = 1;

/// How far ahead of the products a packed weight is asked for: each takes so many
/// instructions here that too little of what follows is under way by itself.
constexpr int64_t aheadBytes = 1024;

/// Rows from which it pays to unpack panels to bytes, two at a time.
constexpr int64_t unpackRows = 32;
/// Whether it does for panels that are bytes already: not here, for a tile of two panels
/// has half as many rows.
constexpr bool unpacksBytes = false;

/// Rows per tile of the matmuls: what the registers hold.
constexpr int tileRows = 4, floatTileRows = 4;

}  // namespace
