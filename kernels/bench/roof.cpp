// What this machine can do at most: bytes read per second, and int8 products per
// second, with 1..n threads. Prints one JSON line. Built by matmul.bench.ts.
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::atomic<uint64_t> sink;

void readAll(const uint8_t* begin, size_t bytes) {
  __m256i sum[4] = {};
  for (size_t at = 0; at + 128 <= bytes; at += 128) {
    for (int i = 0; i < 4; ++i) {
      const auto* p = reinterpret_cast<const __m256i*>(begin + at + i * 32);
      sum[i] = _mm256_xor_si256(sum[i], _mm256_load_si256(p));
    }
  }
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]),
                                       _mm256_xor_si256(sum[2], sum[3]));
  sink += static_cast<uint64_t>(_mm256_extract_epi64(all, 0));
}

// Eight chains of maddubs, madd, add: the int8 dot product of AVX2 without loads.
void multiply(int64_t rounds) {
  __m256i sum[8] = {};
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int i = 0; i < 8; ++i) {
      asm volatile("" : "+x"(a), "+x"(b));
      sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  }
  for (const __m256i& s : sum) sink += static_cast<uint64_t>(_mm256_extract_epi64(s, 0));
}

/// Best of many short runs: others may be using the machine.
template <typename Work>
double bestSeconds(int threads, Work work) {
  double best = 1e9;
  for (int run = 0; run < 60; ++run) {
    const double begin = now();
    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(work, i);
    work(0);
    for (std::thread& helper : helpers) helper.join();
    best = std::min(best, now() - begin);
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(std::atoi(argv[1]), 1) : 1;
  constexpr size_t bytes = size_t{256} << 20;
  auto* memory = static_cast<uint8_t*>(std::aligned_alloc(1 << 21, bytes));
  if (!memory) return 1;
  std::fill(memory, memory + bytes, uint8_t{1});
  const size_t part = bytes / threads / 128 * 128;
  const double read = bestSeconds(threads, [&](int i) { readAll(memory + i * part, part); });
  constexpr int64_t rounds = 1'000'000;
  const double dot = bestSeconds(threads, [&](int) { multiply(rounds); });
  std::printf("{\"threads\":%d,\"readGBps\":%.2f,\"int8Gops\":%.1f}\n", threads,
              static_cast<double>(part) * threads / read * 1e-9,
              static_cast<double>(rounds) * 8 * 64 * threads / dot * 1e-9);
  std::free(memory);
  return 0;
}
