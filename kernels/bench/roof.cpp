// What this machine can do at most: bytes read per second from huge pages (the median
// and the best of many short runs), and int8 operations per second of each instruction
// set it has (the best), with n threads. Prints one JSON line; `measure_roof.ts` builds
// and runs it.
#include <cpuid.h>
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::atomic<uint64_t> sink;

/// Asks for each line `ahead` bytes before its use; 0 leaves it to the processor.
template <int ahead>
void readAll(const uint8_t* begin, size_t bytes) {
  __m256i sum[4] = {};
  for (size_t at = 0; at + 128 <= bytes; at += 128) {
    if constexpr (ahead > 0) {
      __builtin_prefetch(begin + at + ahead);
      __builtin_prefetch(begin + at + ahead + 64);
    }
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
void multiplyAvx2(int64_t rounds) {
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

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) void multiplyVnni(int64_t rounds) {
  __m512i sum[16];
  for (auto& s : sum) s = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      asm volatile("" : "+v"(a), "+v"(b));
      sum[i] = _mm512_dpbusd_epi32(sum[i], a, b);
    }
  }
  for (const auto& s : sum) sink += static_cast<uint64_t>(_mm512_reduce_add_epi32(s));
}

struct alignas(64) TileConfig {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t colBytes[16] = {};
  uint8_t rows[16] = {};
};

__attribute__((target("amx-tile,amx-int8"))) void multiplyAmx(int64_t rounds) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.colBytes[i] = 64;
    config.rows[i] = 16;
  }
  // GCC 12 thinks that the instruction reads eight bytes of it.
  asm volatile("" ::"r"(&config) : "memory");
  asm volatile("ldtilecfg %0" ::"m"(config));
  alignas(64) static const uint8_t zeros[1024] = {};
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbssd(0, 6, 7);
    _tile_dpbssd(1, 6, 7);
    _tile_dpbssd(2, 6, 7);
    _tile_dpbssd(3, 6, 7);
  }
  _tile_release();
}

bool hasAmx() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 24 & 3) != 3) return false;
  constexpr int requestPermission = 0x1023, tileData = 18;
  return syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
}

bool hasVnni() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}

/// Of many short runs, in order: others may be using the machine.
template <typename Work>
std::vector<double> secondsOf(int threads, Work work) {
  std::vector<double> all;
  for (int run = 0; run < 25; ++run) {
    const double begin = now();
    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(work, i);
    work(0);
    for (std::thread& helper : helpers) helper.join();
    all.push_back(now() - begin);
  }
  std::sort(all.begin(), all.end());
  return all;
}

/// Gop/s; a round is `operations`, multiplications and additions both counted.
template <typename Work>
double gops(int threads, int64_t rounds, double operations, Work work) {
  const double seconds = secondsOf(threads, [&](int) { work(rounds); }).front();
  return static_cast<double>(rounds) * operations * threads / seconds * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(std::atoi(argv[1]), 1) : 1;
  constexpr size_t bytes = size_t{512} << 20;
  auto* memory = static_cast<uint8_t*>(std::aligned_alloc(1 << 21, bytes));
  if (!memory) return 1;
  madvise(memory, bytes, MADV_HUGEPAGE);
  std::fill(memory, memory + bytes, uint8_t{1});
  const size_t part = bytes / threads / 128 * 128;
  const auto plain = secondsOf(threads, [&](int i) { readAll<0>(memory + i * part, part); });
  const auto asking = secondsOf(threads, [&](int i) { readAll<2048>(memory + i * part, part); });
  const auto gBps = [&](size_t at) {
    return static_cast<double>(part) * threads / std::min(plain[at], asking[at]) * 1e-9;
  };
  std::printf("{\"threads\":%d,\"readGBps\":%.2f,\"readBestGBps\":%.2f,"
              "\"int8Gops\":{\"avx2\":%.0f", threads, gBps(plain.size() / 2), gBps(0),
              gops(threads, 500'000, 8 * 64, multiplyAvx2));
  if (hasVnni()) std::printf(",\"avx512\":%.0f", gops(threads, 500'000, 16 * 128, multiplyVnni));
  if (hasAmx()) std::printf(",\"amx\":%.0f", gops(threads, 100'000, 4 * 32768, multiplyAmx));
  std::printf("}}\n");
  std::free(memory);
  return 0;
}
