// Weights in chunks of 32, whatever the GGUF type: two groups of sixteen small integers,
// each with a scale and a minimum: weight = scale * q - minimum.
//
// A chunk is what one lane reads by 16-byte loads. Its groups need not be neighbours: of
// Q4_K a chunk is sixteen bytes, whose low nibbles belong to one sub-block of 32 and whose
// high nibbles to the next; `at` says where each group's first value stands in the row.
#pragma once
#include "device.h"

namespace quetzal::cuda {

struct Chunk {
  uint32_t q[8];  // bytes; group 0 is q[0..3]
  float scale[2], minimum[2];
};

/// What is loaded for a chunk; a type uses some of the fields.
struct RawChunk {
  Words4 a, b, c;
  uint32_t d;
};

struct MatrixRow {
  const uint8_t* quants;
  const uint8_t* scales;
};

static __device__ __forceinline__ uint32_t halfAt(const uint8_t* at) {
  return *reinterpret_cast<const uint16_t*>(at);
}

static __device__ __forceinline__ void splitNibbles(const Words4& w, Chunk& chunk) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    chunk.q[i] = w.word[i] & 0x0f0f0f0fu;
    chunk.q[4 + i] = w.word[i] >> 4 & 0x0f0f0f0fu;
  }
}

template <int32_t type>
struct WeightChunks;

template <>
struct WeightChunks<typeQ4_0> {
  static constexpr bool isSigned = false;
  static __device__ __forceinline__ MatrixRow row(const DeviceMatrix& m, int64_t row) {
    const int64_t blocks = m.cols / 32;
    return {m.quants + row * blocks * 16, m.scales + row * blocks * 2};
  }
  static __device__ __forceinline__ int at(int chunk, int group) { return 32 * chunk + 16 * group; }
  static __device__ __forceinline__ RawChunk load(const MatrixRow& row, int chunk) {
    RawChunk raw;
    raw.a = loadOnce(row.quants + 16 * chunk);
    raw.d = halfAt(row.scales + 2 * chunk);
    return raw;
  }
  static __device__ __forceinline__ Chunk decode(const RawChunk& raw, int) {
    Chunk chunk;
    splitNibbles(raw.a, chunk);
    chunk.scale[0] = chunk.scale[1] = halfToFloat(static_cast<uint16_t>(raw.d));
    chunk.minimum[0] = chunk.minimum[1] = 8 * chunk.scale[0];
    return chunk;
  }
};

template <>
struct WeightChunks<typeQ8_0> {
  static constexpr bool isSigned = true;
  static __device__ __forceinline__ MatrixRow row(const DeviceMatrix& m, int64_t row) {
    const int64_t blocks = m.cols / 32;
    return {m.quants + row * blocks * 32, m.scales + row * blocks * 2};
  }
  static __device__ __forceinline__ int at(int chunk, int group) { return 32 * chunk + 16 * group; }
  static __device__ __forceinline__ RawChunk load(const MatrixRow& row, int chunk) {
    RawChunk raw;
    raw.a = loadOnce(row.quants + 32 * chunk);
    raw.b = loadOnce(row.quants + 32 * chunk + 16);
    raw.d = halfAt(row.scales + 2 * chunk);
    return raw;
  }
  static __device__ __forceinline__ Chunk decode(const RawChunk& raw, int) {
    Chunk chunk;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      chunk.q[i] = raw.a.word[i];
      chunk.q[4 + i] = raw.b.word[i];
    }
    chunk.scale[0] = chunk.scale[1] = halfToFloat(static_cast<uint16_t>(raw.d));
    chunk.minimum[0] = chunk.minimum[1] = 0;
    return chunk;
  }
};

/// Sub-blocks 2p and 2p + 1 of a K-quant header: d, dmin, then twelve bytes of 6-bit
/// scales and minima.
static __device__ __forceinline__ void unpackScales(const Words4& header, int p, Chunk& chunk) {
  const int shift = 16 * (p & 1);
  const uint32_t first = header.word[1] >> shift, second = header.word[2] >> shift,
                 mixed = header.word[3] >> shift;
  const uint32_t scales = p < 2 ? first & 0x3f3fu : (mixed & 0x0f0fu) | (first >> 2 & 0x3030u);
  const uint32_t minima =
      p < 2 ? second & 0x3f3fu : (mixed >> 4 & 0x0f0fu) | (second >> 2 & 0x3030u);
  const float d = halfToFloat(static_cast<uint16_t>(header.word[0]));
  const float dmin = halfToFloat(static_cast<uint16_t>(header.word[0] >> 16));
  chunk.scale[0] = d * static_cast<float>(scales & 0xff);
  chunk.scale[1] = d * static_cast<float>(scales >> 8 & 0xff);
  chunk.minimum[0] = dmin * static_cast<float>(minima & 0xff);
  chunk.minimum[1] = dmin * static_cast<float>(minima >> 8 & 0xff);
}

template <>
struct WeightChunks<typeQ4_K> {
  static constexpr bool isSigned = false;
  static __device__ __forceinline__ MatrixRow row(const DeviceMatrix& m, int64_t row) {
    return {m.quants + row * (m.cols / 256) * 144, nullptr};
  }
  static __device__ __forceinline__ int at(int chunk, int group) {
    const int within = chunk % 8;
    return chunk / 8 * 256 + within / 2 * 64 + within % 2 * 16 + group * 32;
  }
  static __device__ __forceinline__ RawChunk load(const MatrixRow& row, int chunk) {
    const uint8_t* block = row.quants + chunk / 8 * 144;
    RawChunk raw;
    raw.a = loadOnce(block + 16 + chunk % 8 * 16);
    raw.c = load16(block);
    return raw;
  }
  static __device__ __forceinline__ Chunk decode(const RawChunk& raw, int index) {
    Chunk chunk;
    splitNibbles(raw.a, chunk);
    unpackScales(raw.c, index % 8 / 2, chunk);
    return chunk;
  }
};

template <>
struct WeightChunks<typeQ5_K> {
  static constexpr bool isSigned = false;
  static __device__ __forceinline__ MatrixRow row(const DeviceMatrix& m, int64_t row) {
    return {m.quants + row * (m.cols / 256) * 176, nullptr};
  }
  static __device__ __forceinline__ int at(int chunk, int group) {
    return WeightChunks<typeQ4_K>::at(chunk, group);
  }
  static __device__ __forceinline__ RawChunk load(const MatrixRow& row, int chunk) {
    const uint8_t* block = row.quants + chunk / 8 * 176;
    RawChunk raw;
    raw.a = loadOnce(block + 48 + chunk % 8 * 16);
    raw.b = load16(block + 16 + chunk % 2 * 16);
    raw.c = load16(block);
    return raw;
  }
  static __device__ __forceinline__ Chunk decode(const RawChunk& raw, int index) {
    Chunk chunk;
    splitNibbles(raw.a, chunk);
    const int p = index % 8 / 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t high = raw.b.word[i] >> (2 * p);
      chunk.q[i] |= (high & 0x01010101u) << 4;
      chunk.q[4 + i] |= (high & 0x02020202u) << 3;
    }
    unpackScales(raw.c, p, chunk);
    return chunk;
  }
};

template <>
struct WeightChunks<typeQ6_K> {
  static constexpr bool isSigned = false;
  static __device__ __forceinline__ MatrixRow row(const DeviceMatrix& m, int64_t row) {
    const int64_t blocks = m.cols / 256;
    return {m.quants + row * blocks * 208, m.scales + row * blocks * 2};
  }
  static __device__ __forceinline__ int at(int chunk, int group) {
    const int within = chunk % 8;
    return chunk / 8 * 256 + within / 4 * 128 + within / 2 % 2 * 32 + within % 2 * 16 + group * 64;
  }
  static __device__ __forceinline__ RawChunk load(const MatrixRow& row, int chunk) {
    const uint8_t* block = row.quants + chunk / 8 * 208;
    const int within = chunk % 8;
    RawChunk raw;
    raw.a = loadOnce(block + within * 16);
    raw.b = load16(block + 128 + within / 4 * 32 + within % 2 * 16);
    const uint8_t* scales = block + 192 + at(within, 0) / 16;
    raw.c.word[0] = scales[0];
    raw.c.word[1] = scales[4];
    raw.d = halfAt(row.scales + chunk / 8 * 2);
    return raw;
  }
  static __device__ __forceinline__ Chunk decode(const RawChunk& raw, int index) {
    Chunk chunk;
    splitNibbles(raw.a, chunk);
    const int low = index / 2 % 2 * 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      chunk.q[i] |= (raw.b.word[i] >> low & 0x03030303u) << 4;
      chunk.q[4 + i] |= (raw.b.word[i] >> (low + 4) & 0x03030303u) << 4;
    }
    const float d = halfToFloat(static_cast<uint16_t>(raw.d));
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      chunk.scale[group] = d * static_cast<float>(static_cast<int8_t>(raw.c.word[group]));
      chunk.minimum[group] = 32 * chunk.scale[group];
    }
    return chunk;
  }
};

/// One value of an F32, F16 or BF16 row.
static __device__ __forceinline__ float plainAt(const DeviceMatrix& m, int64_t index) {
  if (m.type == typeF32) return reinterpret_cast<const float*>(m.quants)[index];
  const uint16_t half = reinterpret_cast<const uint16_t*>(m.quants)[index];
  return m.type == typeF16 ? halfToFloat(half) : bitsToFloat(static_cast<uint32_t>(half) << 16);
}

}  // namespace quetzal::cuda
