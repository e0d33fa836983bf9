#include "crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace quetzal {
namespace {

constexpr uint32_t polynomial = 0x82f63b78;  // 0x1edc6f41, bits reversed

constexpr std::array<uint32_t, 256> makeTable() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> table = makeTable();

__attribute__((target("sse4.2"))) uint32_t crc32cSse42(const uint8_t* bytes, size_t count) {
  uint64_t crc = 0xffffffff;
  for (; count >= 8; count -= 8, bytes += 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    crc = _mm_crc32_u64(crc, word);
  }
  for (; count > 0; --count, ++bytes) crc = _mm_crc32_u8(static_cast<uint32_t>(crc), *bytes);
  return ~static_cast<uint32_t>(crc);
}

}  // namespace

uint32_t crc32cPlain(const uint8_t* bytes, size_t count) {
  uint32_t crc = 0xffffffff;
  for (size_t i = 0; i < count; ++i) crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
  return ~crc;
}

uint32_t crc32c(const uint8_t* bytes, size_t count) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("sse4.2") ? crc32cSse42(bytes, count) : crc32cPlain(bytes, count);
}

}  // namespace quetzal
