// Matrix products with weights as GGUF stores them.
//
// Few rows (matmul_gemv_*): a warp owns one output and streams its weights once; quantized
// weights meet int8 activations by dot products of bytes, so that unpacking and not
// arithmetic sets the pace. More rows (matmul_tile_*): sixteen outputs a block, weights
// become halves in registers and go through tensor cores once for every eight rows.
//
// The order of k inside a product is free as long as both sides agree. So a lane feeds its
// tensor-core fragments from the sixteen bytes that it loaded itself, whatever places in
// the row they stand for, and picks activations to match: nothing is shuffled or staged.
#include "weight_chunks.h"

namespace quetzal::cuda {

struct Segment {
  const MatmulSegment* segment;
  int32_t tile;
};

static __device__ __forceinline__ Segment segmentOf(const MatmulArgs& args) {
  int32_t index = 0;
  const auto block = static_cast<int32_t>(blockIdx.x);
  while (index + 1 < args.segments && block >= args.segment[index + 1].firstBlock) ++index;
  return {&args.segment[index], block - args.segment[index].firstBlock};
}

// --- few rows ---

template <int32_t type, int rowCount>
static __device__ __forceinline__ void dotQuantized(const MatmulArgs& args, const DeviceMatrix& w,
                                                    int64_t n, int rowBegin,
                                                    float (&total)[rowCount]) {
  using Chunks = WeightChunks<type>;
  constexpr int depth = 4;  // chunks under way, to hide the way to memory
  const int lane = threadIdx.x % 32, chunks = w.cols / 32;
  const MatrixRow row = Chunks::row(w, n);
  bool isFirst = true;
  for (int begin = lane; begin < chunks; begin += 32 * depth) {
    RawChunk raw[depth];
#pragma unroll
    for (int i = 0; i < depth; ++i) {
      if (begin + 32 * i < chunks) raw[i] = Chunks::load(row, begin + 32 * i);
    }
    // Weights are on their way before the activations have to be there.
    if (isFirst) waitForKernelBefore();
    isFirst = false;
#pragma unroll
    for (int i = 0; i < depth; ++i) {
      const int index = begin + 32 * i;
      if (index >= chunks) break;
      const Chunk chunk = Chunks::decode(raw[i], index);
#pragma unroll
      for (int r = 0; r < rowCount; ++r) {
        if (rowBegin + r >= args.rows) break;
        const int64_t x = static_cast<int64_t>(rowBegin + r) * w.cols;
#pragma unroll
        for (int group = 0; group < 2; ++group) {
          const int64_t at = x + Chunks::at(index, group);
          const Words4 quants = load16(args.x.quants + at);
          int dot = 0;
#pragma unroll
          for (int i4 = 0; i4 < 4; ++i4) {
            dot = dotBytes(chunk.q[4 * group + i4], quants.word[i4], dot);
          }
          const float offset = Chunks::isSigned
              ? 0
              : chunk.minimum[group] * static_cast<float>(args.x.sums[at / 16]);
          total[r] += args.x.scales[at / 32] *
              (chunk.scale[group] * static_cast<float>(dot) - offset);
        }
      }
    }
  }
  if (isFirst) waitForKernelBefore();
}

template <int rowCount>
static __device__ __forceinline__ void dotPlain(const MatmulArgs& args, const DeviceMatrix& w,
                                                int64_t n, int rowBegin,
                                                float (&total)[rowCount]) {
  const int lane = threadIdx.x % 32;
  const int64_t base = n * w.cols;
  waitForKernelBefore();
  if (w.type == typeF32 || w.cols % 8 != 0) {
    for (int k = lane; k < w.cols; k += 32) {
      const float weight = plainAt(w, base + k);
#pragma unroll
      for (int r = 0; r < rowCount; ++r) {
        if (rowBegin + r >= args.rows) break;
        total[r] += weight * args.a[static_cast<int64_t>(rowBegin + r) * w.cols + k];
      }
    }
    return;
  }
  constexpr int depth = 4;
  const auto* halves = reinterpret_cast<const uint16_t*>(w.quants) + base;
  for (int begin = 8 * lane; begin < w.cols; begin += 256 * depth) {
    Words4 raw[depth];
#pragma unroll
    for (int i = 0; i < depth; ++i) {
      if (begin + 256 * i < w.cols) raw[i] = loadOnce(halves + begin + 256 * i);
    }
#pragma unroll
    for (int i = 0; i < depth; ++i) {
      const int k = begin + 256 * i;
      if (k >= w.cols) break;
      float weight[8];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const uint32_t word = raw[i].word[j / 2] >> (16 * (j % 2)) & 0xffff;
        weight[j] = w.type == typeF16 ? halfToFloat(static_cast<uint16_t>(word))
                                      : bitsToFloat(word << 16);
      }
#pragma unroll
      for (int r = 0; r < rowCount; ++r) {
        if (rowBegin + r >= args.rows) break;
        const float* x = args.a + static_cast<int64_t>(rowBegin + r) * w.cols + k;
        const Words4 low = load16(x), high = load16(x + 4);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          total[r] += weight[j] * bitsToFloat(low.word[j]);
          total[r] += weight[4 + j] * bitsToFloat(high.word[j]);
        }
      }
    }
  }
}

template <int rowCount>
static __device__ __forceinline__ void multiplyFew(const MatmulArgs& args) {
  const Segment found = segmentOf(args);
  const DeviceMatrix& w = found.segment->weight;
  const int64_t n = static_cast<int64_t>(found.tile) * gemvBlockRows + threadIdx.x / 32;
  const int rowBegin = blockIdx.y * rowCount;
  letNextKernelStart();
  if (n >= w.rows) return;
  float total[rowCount] = {};
  switch (w.type) {
    case typeQ4_0: dotQuantized<typeQ4_0>(args, w, n, rowBegin, total); break;
    case typeQ8_0: dotQuantized<typeQ8_0>(args, w, n, rowBegin, total); break;
    case typeQ4_K: dotQuantized<typeQ4_K>(args, w, n, rowBegin, total); break;
    case typeQ5_K: dotQuantized<typeQ5_K>(args, w, n, rowBegin, total); break;
    case typeQ6_K: dotQuantized<typeQ6_K>(args, w, n, rowBegin, total); break;
    default: dotPlain(args, w, n, rowBegin, total); break;
  }
#pragma unroll
  for (int r = 0; r < rowCount; ++r) {
    const float sum = warpSum(total[r]);
    if (threadIdx.x % 32 != 0 || rowBegin + r >= args.rows) continue;
    const float bias = found.segment->bias ? found.segment->bias[n] : 0;
    found.segment->dst[static_cast<int64_t>(rowBegin + r) * w.rows + n] = sum + bias;
  }
}

extern "C" __global__ void __launch_bounds__(gemvThreads) matmul_gemv_1(const MatmulArgs args) {
  multiplyFew<1>(args);
}
extern "C" __global__ void __launch_bounds__(gemvThreads) matmul_gemv_2(const MatmulArgs args) {
  multiplyFew<2>(args);
}
extern "C" __global__ void __launch_bounds__(gemvThreads) matmul_gemv_4(const MatmulArgs args) {
  multiplyFew<4>(args);
}

// --- tiles ---

/// Thirty-two weights of one output as halves, in the order in which a lane feeds them.
struct HalfChunk {
  uint32_t pair[16];
};

template <int32_t type>
struct HalfChunks {
  using Chunks = WeightChunks<type>;
  static constexpr float scale = 1 / halfWeightScale;
  static __device__ __forceinline__ int at(int chunk, int group) { return Chunks::at(chunk, group); }
  static __device__ __forceinline__ RawChunk load(const DeviceMatrix& m, int64_t row, int chunk) {
    return Chunks::load(Chunks::row(m, row), chunk);
  }
  static __device__ __forceinline__ HalfChunk decode(const RawChunk& raw, int index) {
    const Chunk chunk = Chunks::decode(raw, index);
    // 0x6400 is 1024, whose last bits count ones: a byte below it is 1024 + byte.
    constexpr uint32_t flip = Chunks::isSigned ? 0x80808080u : 0;
    constexpr uint32_t minusBase = Chunks::isSigned ? 0xe480e480u : 0xe400e400u;
    HalfChunk out;
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      const float wide = chunk.scale[group] * halfWeightScale;
      const uint32_t scale = packHalves(wide, wide);
      const float below = -chunk.minimum[group] * halfWeightScale;
      const uint32_t minus = packHalves(below, below);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t bytes = chunk.q[4 * group + i] ^ flip;
        const uint32_t low = addHalves(pickBytes(bytes, 0x64646464u, 0x4140u), minusBase);
        const uint32_t high = addHalves(pickBytes(bytes, 0x64646464u, 0x4342u), minusBase);
        out.pair[8 * group + 2 * i] = fmaHalves(low, scale, minus);
        out.pair[8 * group + 2 * i + 1] = fmaHalves(high, scale, minus);
      }
    }
    return out;
  }
};

template <int32_t type>
struct PlainHalfChunks {
  static constexpr float scale = 1;
  struct Raw {
    Words4 part[4];
  };
  static __device__ __forceinline__ int at(int chunk, int group) { return 32 * chunk + 16 * group; }
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int64_t row, int chunk) {
    const auto* halves = reinterpret_cast<const uint16_t*>(m.quants) + row * m.cols + 32 * chunk;
    Raw raw;
#pragma unroll
    for (int i = 0; i < 4; ++i) raw.part[i] = loadOnce(halves + 8 * i);
    return raw;
  }
  static __device__ __forceinline__ HalfChunk decode(const Raw& raw, int) {
    HalfChunk out;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const uint32_t word = raw.part[i / 4].word[i % 4];
      out.pair[i] = type == typeF16
          ? word
          : packHalves(bitsToFloat(word << 16), bitsToFloat(word & 0xffff0000u));
    }
    return out;
  }
};
template <>
struct HalfChunks<typeF16> : PlainHalfChunks<typeF16> {};
template <>
struct HalfChunks<typeBF16> : PlainHalfChunks<typeBF16> {};

template <int32_t type, int tiles>
static __device__ __forceinline__ void multiplyTiles(const MatmulArgs& args, const Segment& found,
                                                     float* parts) {
  using Chunks = HalfChunks<type>;
  const DeviceMatrix& w = found.segment->weight;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int chunks = w.cols / 32, rowBegin = blockIdx.y * tiles * 8;
  const int64_t last = w.rows - 1, first = static_cast<int64_t>(found.tile) * tileBlockRows + g;
  const int64_t upper = first < last ? first : last, lower = first + 8 < last ? first + 8 : last;
  float sum[tiles][4] = {};
  bool isFirst = true;
  for (int begin = 4 * warp; begin < chunks; begin += 4 * (tileThreads / 32)) {
    const int index = begin + t;
    const bool holds = index < chunks;
    HalfChunk a = {}, b = {};
    if (holds) {
      const auto rawA = Chunks::load(w, upper, index);
      const auto rawB = Chunks::load(w, lower, index);
      a = Chunks::decode(rawA, index);
      b = Chunks::decode(rawB, index);
    }
    if (isFirst) waitForKernelBefore();
    isFirst = false;
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      Words4 x[tiles][2];
#pragma unroll
      for (int tile = 0; tile < tiles; ++tile) {
        const int row = rowBegin + 8 * tile + g;
        if (holds && row < args.rows) {
          const uint16_t* from =
              args.x.halves + static_cast<int64_t>(row) * w.cols + Chunks::at(index, group);
          x[tile][0] = load16(from);
          x[tile][1] = load16(from + 8);
        } else {
          x[tile][0] = x[tile][1] = Words4{};
        }
      }
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        const int at = 8 * group + 2 * step;
        const uint32_t weights[4] = {a.pair[at], b.pair[at], a.pair[at + 1], b.pair[at + 1]};
#pragma unroll
        for (int tile = 0; tile < tiles; ++tile) {
          const Words4& from = x[tile][step / 2];
          const uint32_t inputs[2] = {from.word[step % 2 * 2], from.word[step % 2 * 2 + 1]};
          multiplyTile(sum[tile], weights, inputs);
        }
      }
    }
  }
  if (isFirst) waitForKernelBefore();
  // Each warp had its share of k: add the eight up.
#pragma unroll
  for (int tile = 0; tile < tiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int output = g + i / 2 * 8, row = 8 * tile + 2 * t + i % 2;
      parts[(warp * 8 * tiles + row) * tileBlockRows + output] = sum[tile][i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 8 * tiles * tileBlockRows; i += tileThreads) {
    const int row = rowBegin + i / tileBlockRows;
    const int64_t output = static_cast<int64_t>(found.tile) * tileBlockRows + i % tileBlockRows;
    if (row >= args.rows || output > last) continue;
    float total = 0;
    for (int part = 0; part < tileThreads / 32; ++part) {
      total += parts[part * 8 * tiles * tileBlockRows + i];
    }
    const float bias = found.segment->bias ? found.segment->bias[output] : 0;
    found.segment->dst[static_cast<int64_t>(row) * w.rows + output] =
        total * (args.x.rowScales[row] * Chunks::scale) + bias;
  }
}

template <int tiles>
static __device__ __forceinline__ void multiplyMany(const MatmulArgs& args) {
  Shared shared;
  float* parts = shared.take<float>(tileThreads / 32 * 8 * tiles * tileBlockRows);
  const Segment found = segmentOf(args);
  letNextKernelStart();
  switch (found.segment->weight.type) {
    case typeQ4_0: multiplyTiles<typeQ4_0, tiles>(args, found, parts); break;
    case typeQ8_0: multiplyTiles<typeQ8_0, tiles>(args, found, parts); break;
    case typeQ4_K: multiplyTiles<typeQ4_K, tiles>(args, found, parts); break;
    case typeQ5_K: multiplyTiles<typeQ5_K, tiles>(args, found, parts); break;
    case typeQ6_K: multiplyTiles<typeQ6_K, tiles>(args, found, parts); break;
    case typeF16: multiplyTiles<typeF16, tiles>(args, found, parts); break;
    default: multiplyTiles<typeBF16, tiles>(args, found, parts); break;
  }
}

extern "C" __global__ void __launch_bounds__(tileThreads) matmul_tile_8(const MatmulArgs args) {
  multiplyMany<1>(args);
}
extern "C" __global__ void __launch_bounds__(tileThreads) matmul_tile_16(const MatmulArgs args) {
  multiplyMany<2>(args);
}
extern "C" __global__ void __launch_bounds__(tileThreads) matmul_tile_32(const MatmulArgs args) {
  multiplyMany<4>(args);
}

}  // namespace quetzal::cuda
