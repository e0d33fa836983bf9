// AVX-512 by SIMD Everywhere, for testing cpu/simd_avx512.h on machines without
// it. What the library lacks is put together from halves of eight lanes.
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

namespace {

inline __m256i emulatedHalf(__m512i v, int index) {
  return index ? _mm512_extracti64x4_epi64(v, 1) : _mm512_extracti64x4_epi64(v, 0);
}

inline __m512i emulatedJoin(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

inline __m256 emulatedFloats(__m512 v, int index) {
  return _mm256_castsi256_ps(emulatedHalf(_mm512_castps_si512(v), index));
}

inline __m512 emulatedCvtphPs(__m256i v) {
  const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(v));
  const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1));
  return _mm512_castsi512_ps(emulatedJoin(_mm256_castps_si256(low), _mm256_castps_si256(high)));
}

inline __m256i emulatedCvtpsPh(__m512 v) {
  return _mm256_set_m128i(_mm256_cvtps_ph(emulatedFloats(v, 1), _MM_FROUND_TO_NEAREST_INT),
                          _mm256_cvtps_ph(emulatedFloats(v, 0), _MM_FROUND_TO_NEAREST_INT));
}

inline __m512i emulatedCvtepu16(__m256i v) {
  return emulatedJoin(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                      _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1)));
}

inline __m512i emulatedCvtepu8(__m128i v) {
  return emulatedJoin(_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)));
}

inline __m512i emulatedCvtepi8(__m128i v) {
  return emulatedJoin(_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)));
}

inline __m512i emulatedCvtps(__m512 v) {
  return emulatedJoin(_mm256_cvtps_epi32(emulatedFloats(v, 0)),
                      _mm256_cvtps_epi32(emulatedFloats(v, 1)));
}

inline __m512i emulatedCvttps(__m512 v) {
  return emulatedJoin(_mm256_cvttps_epi32(emulatedFloats(v, 0)),
                      _mm256_cvttps_epi32(emulatedFloats(v, 1)));
}

inline __m512 emulatedCvtepi32Ps(__m512i v) {
  return _mm512_castsi512_ps(
      emulatedJoin(_mm256_castps_si256(_mm256_cvtepi32_ps(emulatedHalf(v, 0))),
                   _mm256_castps_si256(_mm256_cvtepi32_ps(emulatedHalf(v, 1)))));
}

inline int emulatedReduceAdd(__m512i v) {
  int lanes[16], sum = 0;
  _mm512_storeu_si512(lanes, v);
  for (int lane : lanes) sum += lane;
  return sum;
}

}  // namespace

#define _mm512_cvtph_ps emulatedCvtphPs
#define _mm512_cvtps_ph(v, rounding) emulatedCvtpsPh(v)
#define _mm512_cvtepu16_epi32 emulatedCvtepu16
#define _mm512_cvtepu8_epi32 emulatedCvtepu8
#define _mm512_cvtepi8_epi32 emulatedCvtepi8
#define _mm512_cvtps_epi32 emulatedCvtps
#define _mm512_cvttps_epi32 emulatedCvttps
#define _mm512_reduce_add_epi32 emulatedReduceAdd
#define _mm512_cvtepi32_ps emulatedCvtepi32Ps
