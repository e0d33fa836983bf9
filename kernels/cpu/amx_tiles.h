// The tiles of AMX as this project uses them, or a plain emulation of them.
//
//   0, 1  products: 16 rows x 16 i32
//   2, 3  a block of 32 k: activations 16 rows x 32 bytes, weights 8 groups x 64 bytes
//   4, 5  half a block:    activations 16 rows x 16 bytes, weights 4 groups x 64 bytes
//
// Source: Intel 64 and IA-32 Architectures SDM, TDPBSSD and palette 1.
#pragma once
#include <cstdint>
#include <cstring>

namespace {

struct TileShape {
  uint8_t rows;
  uint16_t rowBytes;
};
constexpr TileShape tileShapes[6] = {{16, 64}, {16, 64}, {16, 32}, {8, 64}, {16, 16}, {4, 64}};

#ifdef QUETZAL_EMULATE_AMX

thread_local int8_t emulatedTiles[6][16][64];

/// Sets up this thread's tiles while it lives.
struct TileScope {};

template <int tile>
inline void tileZero() { std::memset(emulatedTiles[tile], 0, sizeof emulatedTiles[tile]); }

template <int tile>
inline void tileLoad(const void* from, int64_t stride) {
  for (int row = 0; row < tileShapes[tile].rows; ++row) {
    std::memcpy(emulatedTiles[tile][row], static_cast<const char*>(from) + row * stride,
                tileShapes[tile].rowBytes);
  }
}

template <int tile>
inline void tileStore(void* to, int64_t stride) {
  for (int row = 0; row < tileShapes[tile].rows; ++row) {
    std::memcpy(static_cast<char*>(to) + row * stride, emulatedTiles[tile][row],
                tileShapes[tile].rowBytes);
  }
}

/// sum += a times b, signed bytes: four k of a row of a meet four k of an output in b.
template <int sum, int a, int b>
inline void tileDot() {
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < tileShapes[a].rowBytes / 4; ++k) {
      for (int n = 0; n < 16; ++n) {
        int32_t total;
        std::memcpy(&total, emulatedTiles[sum][m] + 4 * n, 4);
        for (int i = 0; i < 4; ++i) {
          total += emulatedTiles[a][m][4 * k + i] * emulatedTiles[b][k][4 * n + i];
        }
        std::memcpy(emulatedTiles[sum][m] + 4 * n, &total, 4);
      }
    }
  }
}

#else

struct alignas(64) TileConfig {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t rowBytes[16] = {};
  uint8_t rows[16] = {};
};

/// Sets up this thread's tiles while it lives.
struct TileScope {
  TileScope() {
    TileConfig config;
    for (int tile = 0; tile < 6; ++tile) {
      config.rows[tile] = tileShapes[tile].rows;
      config.rowBytes[tile] = tileShapes[tile].rowBytes;
    }
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  ~TileScope() { asm volatile("tilerelease"); }
};

// GCC's intrinsics are macros that paste the tile's number, so a constant will not do.
template <int tile>
inline void tileZero() { asm volatile("tilezero %%tmm%c0" ::"i"(tile)); }
template <int tile>
inline void tileLoad(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
inline void tileStore(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
}
template <int sum, int a, int b>
inline void tileDot() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(a), "i"(b));
}

#endif

}  // namespace
