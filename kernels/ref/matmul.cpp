// Sums in the order the vector kernels sum in, so both give the same bits.
#include <cmath>
#include <cstring>

#include "../include/half.h"
#include "twins.h"

namespace quetzal::ref {

void quantizeRows(const float* a, int64_t rows, int64_t cols, QuantizedRows dst) {
  for (int64_t block = 0; block < rows * cols / quantBlock; ++block) {
    const float* in = a + block * quantBlock;
    float amax = 0;
    bool finite = true;
    for (int64_t i = 0; i < quantBlock; ++i) {
      amax = std::fmax(amax, std::fabs(in[i]));
      finite = finite && std::isfinite(in[i]);
    }
    // Tinier blocks count as zero: 127 / amax must stay finite.
    const bool tiny = amax < 1e-30f;
    const float inverse = tiny ? 0 : 127.0f / amax;
    // Q8_0 keeps its scale as f16.
    dst.scales[block] = !finite ? NAN : tiny ? 0 : f16ToF32(f32ToF16(amax / 127.0f));
    dst.sums[block] = 0;
    for (int64_t i = 0; i < quantBlock; ++i) {
      const float rounded = finite ? std::nearbyint(in[i] * inverse) : 0;
      dst.quants[block * quantBlock + i] = static_cast<int8_t>(rounded);
      dst.sums[block] += static_cast<int32_t>(rounded);
    }
  }
}

namespace {

int32_t quantAt(const uint8_t* block, WeightType type, int64_t i) {
  if (type == WeightType::q8_0) return static_cast<int8_t>(block[2 + i]);
  return (i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4) - 8;
}

float dotQuantized(const MatmulArgs& args, int64_t row, int64_t n) {
  const Matrix& w = args.weight;
  const int64_t blocks = w.cols / quantBlock;
  const uint8_t* in = w.data + n * rowBytes(w.type, w.cols);
  float total = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int8_t* x = args.quantized.quants + row * w.cols + block * quantBlock;
    int32_t sum = 0;
    for (int64_t i = 0; i < quantBlock; ++i) sum += quantAt(in, w.type, i) * x[i];
    uint16_t half;
    std::memcpy(&half, in, 2);
    const float scale = f16ToF32(half) * args.quantized.scales[row * blocks + block];
    total = std::fma(static_cast<float>(sum), scale, total);
    in += w.type == WeightType::q8_0 ? q8BlockBytes : q4BlockBytes;
  }
  return total;
}

float dotFloat(const MatmulArgs& args, int64_t row, int64_t n) {
  const float* x = args.a + row * args.weight.cols;
  float total = 0;
  for (int64_t k = 0; k < args.weight.cols; ++k) {
    total = std::fma(weightAt(args.weight, n, k), x[k], total);
  }
  return total;
}

}  // namespace

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
