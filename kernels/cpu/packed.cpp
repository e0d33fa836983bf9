// From rows of a file to panels. Codes are taken four at a time, as the bytes of a
// word: the same shifts and masks work on all of them.
#include "packed.h"

#include <emmintrin.h>

#include <cstring>

namespace quetzal {
namespace {

uint32_t wordAt(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}

constexpr uint32_t each(uint32_t byte) { return byte * 0x01010101u; }

/// The codes of one block of 32: word g holds codes 4g..4g + 3.
struct Codes {
  uint32_t words[8];
};

/// Four bits of a word, spread to the lowest bits of its bytes.
uint32_t spread(uint32_t bits) {
  return (bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21;
}

/// Byte j holds code j in its low and code j + 16 in its high half.
Codes nibbles(const uint8_t* in) {
  Codes out;
  for (int g = 0; g < 4; ++g) {
    const uint32_t word = wordAt(in + 4 * g);
    out.words[g] = word & each(15);
    out.words[g + 4] = word >> 4 & each(15);
  }
  return out;
}

Codes fiveBits(const uint8_t* high) {
  Codes out = nibbles(high + 4);
  const uint32_t bits = wordAt(high);
  for (int g = 0; g < 8; ++g) out.words[g] |= spread(bits >> 4 * g & 15) << 4;
  return out;
}

/// Block j of a K type: byte i of its codes holds code i, shifted.
Codes shifted(const uint8_t* in, int shift, uint32_t mask) {
  Codes out;
  for (int g = 0; g < 8; ++g) out.words[g] = wordAt(in + 4 * g) >> shift & each(mask);
  return out;
}

void addHigh(Codes& codes, const uint8_t* in, int shift, uint32_t mask, int place) {
  for (int g = 0; g < 8; ++g) {
    codes.words[g] |= (wordAt(in + 4 * g) >> shift & each(mask)) << place;
  }
}

/// Codes as the kernels multiply with them: unsigned, before any constant is taken off.
inline Codes codesOf(WeightType type, const uint8_t* in, int j) {
  Codes out = {};
  switch (type) {
    case WeightType::q4_0:
    case WeightType::iq4_nl: return nibbles(in + 2);
    case WeightType::mxfp4: return nibbles(in + 1);
    case WeightType::q4_1: return nibbles(in + 4);
    case WeightType::q5_0: return fiveBits(in + 2);
    case WeightType::q5_1: return fiveBits(in + 4);
    case WeightType::q8_0:
      std::memcpy(out.words, in + 2, 32);
      return out;
    case WeightType::q2_k: return shifted(in + 16 + 32 * (j / 4), 2 * (j % 4), 3);
    case WeightType::q3_k:
      out = shifted(in + 32 + 32 * (j / 4), 2 * (j % 4), 3);
      addHigh(out, in, j, 1, 2);
      return out;
    case WeightType::q4_k: return shifted(in + 16 + 32 * (j / 2), 4 * (j % 2), 15);
    case WeightType::q5_k:
      out = shifted(in + 48 + 32 * (j / 2), 4 * (j % 2), 15);
      addHigh(out, in + 16, j, 1, 4);
      return out;
    case WeightType::q6_k:
      out = shifted(in + 64 * (j / 4) + 32 * (j % 2), 4 * (j % 4 / 2), 15);
      addHigh(out, in + 128 + 32 * (j / 4), 2 * (j % 4), 3, 4);
      return out;
    case WeightType::iq4_xs: return nibbles(in + 8 + 16 * j);
    default: return out;
  }
}

void putWord(uint8_t* p, uint32_t word) { std::memcpy(p, &word, 4); }

/// Writes the codes of one row of a panel, whole words at a time.
inline void putCodes(const PackedFormat& format, const Codes& codes, int64_t row, uint8_t* low,
                     uint8_t* high) {
  const uint32_t* words = codes.words;
  uint8_t *lowAt = low + row * 4, *highAt = high + row * 4;
  if (format.lowBits == 8) {
    for (int g = 0; g < 8; ++g) putWord(lowAt + g * 64, words[g]);
    return;
  }
  if (format.lowBits == 4) {
    for (int g = 0; g < 4; ++g) {
      putWord(lowAt + g * 64, (words[g] & each(15)) | (words[g + 4] & each(15)) << 4);
    }
  }
  uint32_t low2[2] = {}, high1 = 0, high2[2] = {};
  for (int g = 0; g < 8; ++g) {
    const uint32_t beyond = words[g] >> format.lowBits;
    low2[g / 4] |= (words[g] & each(3)) << 2 * (g % 4);
    high1 |= (beyond & each(1)) << g;
    high2[g / 4] |= (beyond & each(3)) << 2 * (g % 4);
  }
  for (int half = 0; half < 2; ++half) {
    if (format.lowBits == 2) putWord(lowAt + half * 64, low2[half]);
    if (format.highBits == 2) putWord(highAt + half * 64, high2[half]);
  }
  if (format.highBits == 1) putWord(highAt, high1);
}

/// Six-bit scales and minimums of Q4_K and Q5_K.
void sixBits(const uint8_t* s, int j, uint8_t& scale, uint8_t& min) {
  scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
  min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
}

/// The scales of one row and unit; `out` is the unit's, see PackedFormat::scaleBytes.
inline void putScales(WeightType type, const uint8_t* in, int64_t row, uint8_t* out) {
  uint8_t* first = out + 2 * row;
  uint8_t* second = out + 32 + 2 * row;
  switch (type) {
    case WeightType::mxfp4: out[row] = in[0]; break;
    case WeightType::q4_1:
    case WeightType::q5_1:
      std::memcpy(first, in, 2);
      std::memcpy(second, in + 2, 2);
      second[1] ^= 0x80;  // these files hold what is added, the kernels subtract
      break;
    case WeightType::q2_k:
      std::memcpy(first, in + 80, 2);
      std::memcpy(second, in + 82, 2);
      for (int s = 0; s < 16; ++s) {
        out[64 + 16 * s + row] = in[s] & 15;
        out[320 + 16 * s + row] = in[s] >> 4;
      }
      break;
    case WeightType::q3_k:
      std::memcpy(first, in + 108, 2);
      for (int s = 0; s < 16; ++s) {
        const int small = s < 8 ? in[96 + s] & 15 : in[88 + s] >> 4;
        const int large = in[104 + s % 4] >> 2 * (s / 4) & 3;
        out[32 + 16 * s + row] = static_cast<uint8_t>(small + 16 * large - 32);
      }
      break;
    case WeightType::q4_k:
    case WeightType::q5_k:
      std::memcpy(first, in, 2);
      std::memcpy(second, in + 2, 2);
      for (int j = 0; j < 8; ++j) {
        sixBits(in + 4, j, out[64 + 16 * j + row], out[192 + 16 * j + row]);
      }
      break;
    case WeightType::q6_k:
      std::memcpy(first, in + 208, 2);
      for (int s = 0; s < 16; ++s) out[32 + 16 * s + row] = in[192 + s];
      break;
    case WeightType::iq4_xs:
      std::memcpy(first, in, 2);
      for (int j = 0; j < 8; ++j) {
        const int large = (in[2] | in[3] << 8) >> 2 * j & 3;
        const int small = in[4 + j / 2] >> 4 * (j % 2) & 15;
        out[32 + 16 * j + row] = static_cast<uint8_t>(small + 16 * large - 32);
      }
      break;
    default: std::memcpy(first, in, 2); break;
  }
}

/// `count` rows, at most a panel, from `src` to the panel's places.
template <WeightType type>
void packQuantized(int64_t cols, int64_t count, const uint8_t* src, uint8_t* low, uint8_t* high,
                   uint8_t* scales) {
  constexpr PackedFormat format = packedFormatOf(type);
  const WeightFormat& file = formatOf(type);
  const int64_t units = cols / file.blockValues, bytes = units * file.blockBytes;
  const int64_t blocksPerUnit = file.blockValues / 32;
  std::memset(scales, 0, units * format.scaleBytes);
  for (int64_t unit = 0; unit < units; ++unit) {
    for (int64_t row = 0; row < count; ++row) {
      putScales(type, src + row * bytes + unit * file.blockBytes, row,
                scales + unit * format.scaleBytes);
    }
    for (int64_t j = 0; j < blocksPerUnit; ++j) {
      const int64_t block = unit * blocksPerUnit + j;
      uint8_t* lowBlock = low + block * 64 * format.lowBits;
      uint8_t* highBlock = high + block * 64 * format.highBits;
      for (int64_t row = 0; row < count; ++row) {
        const uint8_t* in = src + row * bytes + unit * file.blockBytes;
        putCodes(format, codesOf(type, in, static_cast<int>(j)), row, lowBlock, highBlock);
      }
      for (int64_t row = count; row < panelWidth; ++row) {
        putCodes(format, Codes{}, row, lowBlock, highBlock);
      }
    }
  }
}

template <typename T>
void packPlain(int64_t cols, int64_t count, const uint8_t* src, T* out) {
  for (int64_t k = 0; k < cols; ++k) {
    for (int64_t row = 0; row < panelWidth; ++row) {
      T value = 0;
      if (row < count) std::memcpy(&value, src + (row * cols + k) * sizeof(T), sizeof(T));
      out[k * panelWidth + row] = value;
    }
  }
}

/// Eight rows and eight columns of halves; `stride` in halves (SSE2, all x86-64 has it).
inline void transposeHalves(const uint16_t* in, int64_t stride, uint16_t* out) {
  __m128i a[8], b[8];
  for (int i = 0; i < 8; ++i) {
    a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i * stride));
  }
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) {
      a[4 * i + 2 * j] = _mm_unpacklo_epi32(b[4 * i + j], b[4 * i + 2 + j]);
      a[4 * i + 2 * j + 1] = _mm_unpackhi_epi32(b[4 * i + j], b[4 * i + 2 + j]);
    }
  }
  for (int j = 0; j < 4; ++j) {
    auto* to = reinterpret_cast<__m128i*>(out + 2 * j * panelWidth);
    _mm_storeu_si128(to, _mm_unpacklo_epi64(a[j], a[4 + j]));
    _mm_storeu_si128(to + 2, _mm_unpackhi_epi64(a[j], a[4 + j]));
  }
}

/// F16 and BF16: as `packPlain`, by tiles of eight.
void packHalves(int64_t cols, int64_t count, const uint8_t* src, uint16_t* out) {
  const auto* in = reinterpret_cast<const uint16_t*>(src);
  if (count < panelWidth || cols % 8 != 0) return packPlain(cols, count, src, out);
  for (int64_t k = 0; k < cols; k += 8) {
    for (int64_t row = 0; row < panelWidth; row += 8) {
      transposeHalves(in + row * cols + k, cols, out + k * panelWidth + row);
    }
  }
}

}  // namespace

int64_t packedPanelBytes(WeightType type, int64_t rows, int64_t cols) {
  return isQuantized(type) ? packedAreasOf(type, rows, cols).end
                           : panelsOf(rows) * panelWidth * rowBytes(type, cols);
}

void packPanels(WeightType type, int64_t rows, int64_t cols, int64_t rowBegin, int64_t count,
                const uint8_t* src, uint8_t* dst) {
  const int64_t bytes = rowBytes(type, cols);
  const PackedFormat format = packedFormatOf(type);
  const PackedAreas areas = packedAreasOf(type, rows, cols);
  for (int64_t done = 0; done < count; done += panelWidth) {
    const int64_t panel = (rowBegin + done) / panelWidth;
    const int64_t some = count - done < panelWidth ? count - done : panelWidth;
    const uint8_t* in = src + done * bytes;
    if (type == WeightType::f32) {
      packPlain(cols, some, in, reinterpret_cast<uint32_t*>(dst + panel * panelWidth * bytes));
    } else if (!isQuantized(type)) {
      packHalves(cols, some, in, reinterpret_cast<uint16_t*>(dst + panel * panelWidth * bytes));
    } else {
      const int64_t perBit = panelWidth * cols / 8;
      visitQuantized(type, [&](auto constant) {
        packQuantized<constant()>(
            cols, some, in, dst + panel * perBit * format.lowBits,
            dst + areas.high + panel * perBit * format.highBits,
            dst + areas.scales + panel * (cols / format.unitValues) * format.scaleBytes);
      });
    }
  }
}

}  // namespace quetzal
