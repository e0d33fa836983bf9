// Sums in the order the vector kernels sum in, so both give the same bits.
#include <cmath>
#include <cstring>

#include "../include/half.h"
#include "blocks.h"
#include "twins.h"

namespace quetzal::ref {

void quantizeRows(const QuantizeArgs* args, int64_t rowBegin, int64_t rowEnd) {
  const int64_t cols = args->cols;
  const QuantizedRows& dst = args->dst;
  for (int64_t block = rowBegin * cols / 32; block < rowEnd * cols / 32; ++block) {
    const float* in = args->a + block * 32;
    float amax = 0;
    bool finite = true;
    for (int64_t i = 0; i < 32; ++i) {
      amax = std::fmax(amax, std::fabs(in[i]));
      finite = finite && std::isfinite(in[i]);
    }
    // Tinier blocks count as zero: 127 / amax must stay finite.
    const bool tiny = amax < 1e-30f;
    const float inverse = tiny ? 0 : 127.0f / amax;
    // Q8_0 keeps its scale as f16.
    dst.scales[block] = !finite ? NAN : tiny ? 0 : f16ToF32(f32ToF16(amax / 127.0f));
    dst.sums[2 * block] = dst.sums[2 * block + 1] = 0;
    for (int64_t i = 0; i < 32; ++i) {
      const float rounded = finite ? std::nearbyint(in[i] * inverse) : 0;
      dst.quants[block * 32 + i] = static_cast<int8_t>(rounded);
      dst.sums[2 * block + i / 16] += static_cast<int32_t>(rounded);
    }
  }
}

namespace {

float dotQuantized(const MatmulArgs& args, int64_t row, int64_t n) {
  const Matrix& w = args.weight;
  const int64_t blocks = w.cols / 32;
  const uint8_t* in = w.data + n * rowBytes(w.type, w.cols);
  float total = 0;
  for (int64_t at = 0; at < blocks; ++at) {
    const Block block = decodeBlock(w.type, in, at);
    const int8_t* x = args.quantized.quants + row * w.cols + at * 32;
    const int32_t* sums = args.quantized.sums + (row * blocks + at) * 2;
    const float xScale = args.quantized.scales[row * blocks + at];
    for (int64_t begin = 0; begin < 32; begin += block.group) {
      int32_t dot = 0, sum = 0;
      for (int64_t i = begin; i < begin + block.group; ++i) dot += block.quants[i] * x[i];
      for (int64_t i = begin / 16; i < (begin + block.group) / 16; ++i) sum += sums[i];
      const int64_t half = begin / 16;
      total = std::fma(static_cast<float>(dot), block.scale[half] * xScale, total);
      if (hasMinimum(w.type)) {
        total = std::fma(block.min[half], -(xScale * static_cast<float>(sum)), total);
      }
    }
  }
  return total;
}

float dotFloat(const MatmulArgs& args, int64_t row, int64_t n) {
  const Matrix& w = args.weight;
  const uint8_t* in = w.data + n * rowBytes(w.type, w.cols);
  const float* x = args.a + row * w.cols;
  float total = 0;
  for (int64_t k = 0; k < w.cols; ++k) total = std::fma(plainAt(w.type, in, k), x[k], total);
  return total;
}

}  // namespace

int64_t matmulScratchBytes(int64_t, int64_t) { return 0; }

void matmul(const MatmulArgs* args, int64_t panelBegin, int64_t panelEnd) {
  for (int64_t row = 0; row < args->rows; ++row) {
    for (int64_t n = panelBegin; n < panelEnd; ++n) {
      const float total = isQuantized(args->weight.type) ? dotQuantized(*args, row, n)
                                                         : dotFloat(*args, row, n);
      args->dst[row * args->weight.rows + n] = args->bias ? total + args->bias[n] : total;
    }
  }
}

}  // namespace quetzal::ref
