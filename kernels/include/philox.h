// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// 2011): a keyed bijection of counters. Draw n of a seed needs no state, so a
// replay elsewhere draws the same number.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define QUETZAL_EVERYWHERE __host__ __device__
#else
#define QUETZAL_EVERYWHERE
#endif

namespace quetzal {

struct PhiloxWords {
  uint32_t word[4];
};

QUETZAL_EVERYWHERE static inline PhiloxWords philox4x32(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter.word[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// Uniform in [0, 1) with 53 bits: key is the seed, counter is (draw, 0, 0, 0).
QUETZAL_EVERYWHERE static inline double uniformOf(uint64_t seed, uint32_t draw) {
  const PhiloxWords words = philox4x32({{draw, 0, 0, 0}}, static_cast<uint32_t>(seed),
                                       static_cast<uint32_t>(seed >> 32));
  const uint64_t bits = (uint64_t{words.word[0] >> 5} << 26) | (words.word[1] >> 6);
  return static_cast<double>(bits) * 1.1102230246251565e-16;  // 2^-53
}

}  // namespace quetzal
