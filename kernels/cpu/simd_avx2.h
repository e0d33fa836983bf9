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

inline __m256i broadcast4(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, 4);
  return _mm256_set1_epi32(word);
}

/// Four int8 weights of each of 16 outputs. AVX2 multiplies unsigned with signed
/// bytes: |w| times x with w's sign is exact, for 127 * 128 * 2 fits in 16 bits.
struct Weights8 { __m256i w0, w1, abs0, abs1; };
inline Weights8 loadWeights8(const uint8_t* p) {
  const __m256i w0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i w1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 32));
  return {w0, w1, _mm256_abs_epi8(w0), _mm256_abs_epi8(w1)};
}
struct Dot8 { __m256i a, b; };
inline Dot8 dot8Begin(int32_t) { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Dot8 dot8Step(Dot8 acc, const Weights8& w, const int8_t* x4) {
  const __m256i x = broadcast4(x4);
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i p0 = _mm256_maddubs_epi16(w.abs0, _mm256_sign_epi8(x, w.w0));
  const __m256i p1 = _mm256_maddubs_epi16(w.abs1, _mm256_sign_epi8(x, w.w1));
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(p0, ones)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(p1, ones))};
}
inline vi dot8End(Dot8 acc, int32_t) { return {acc.a, acc.b}; }

/// 4-bit weights, two groups of four k per byte; kept unsigned (0..15), so all
/// eight groups of a block fit in 16 bits: 8 * 2 * 15 * 127 = 30480.
struct Weights4 { __m256i a, b; };
inline void loadWeights4(const uint8_t* p, Weights4& low, Weights4& high) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i b = _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 32));
  low = {_mm256_and_si256(a, nibble), _mm256_and_si256(b, nibble)};
  high = {_mm256_and_si256(_mm256_srli_epi16(a, 4), nibble),
          _mm256_and_si256(_mm256_srli_epi16(b, 4), nibble)};
}
struct Dot4 { __m256i a, b; };
inline Dot4 dot4Begin(int32_t) { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Dot4 dot4Step(Dot4 acc, const Weights4& w, const int8_t* x4) {
  const __m256i x = broadcast4(x4);
  return {_mm256_add_epi16(acc.a, _mm256_maddubs_epi16(w.a, x)),
          _mm256_add_epi16(acc.b, _mm256_maddubs_epi16(w.b, x))};
}
inline vi dot4End(Dot4 acc, int32_t sum) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i offset = _mm256_set1_epi32(-8 * sum);
  return {_mm256_add_epi32(_mm256_madd_epi16(acc.a, ones), offset),
          _mm256_add_epi32(_mm256_madd_epi16(acc.b, ones), offset)};
}

/// Rows per tile of the matmul: what the 16 registers hold.
constexpr int tileRows = 4;

}  // namespace
