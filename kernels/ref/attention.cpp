// Two passes over the tokens of each query: the largest score, then the weighted
// mean of the values in double.
#include <cmath>

#include "../include/half.h"
#include "twins.h"

namespace quetzal::ref {

void kvWrite(const KvWriteArgs* args, int64_t rowBegin, int64_t rowEnd) {
  const KvPool& pool = args->pool;
  for (int64_t row = rowBegin; row < rowEnd; ++row) {
    for (int64_t head = 0; head < pool.kvHeads; ++head) {
      const int64_t at = (row * pool.kvHeads + head) * pool.headDim;
      const int64_t slot = args->slot[row] * pool.headDim;
      uint16_t* k = pool.data + kvOffset(pool, args->block[row], args->layer, 0, head) + slot;
      uint16_t* v = pool.data + kvOffset(pool, args->block[row], args->layer, 1, head) + slot;
      for (int64_t i = 0; i < pool.headDim; ++i) {
        k[i] = f32ToF16(args->k[at + i]);
        v[i] = f32ToF16(args->v[at + i]);
      }
    }
  }
}

namespace {

const uint16_t* tokenAt(const AttentionArgs& args, int64_t token, int64_t isV) {
  const KvPool& pool = args.pool;
  const int64_t block = args.blockTable[token / pool.blockTokens];
  return pool.data + kvOffset(pool, block, args.layer, isV, args.kvHead) +
      token % pool.blockTokens * pool.headDim;
}

double scoreOf(const AttentionArgs& args, const float* q, int64_t token) {
  const uint16_t* k = tokenAt(args, token, 0);
  double dot = 0;
  for (int64_t i = 0; i < args.pool.headDim; ++i) dot += double{q[i]} * f16ToF32(k[i]);
  return dot * args.scale;
}

void attendQuery(const AttentionArgs& args, const float* q, int64_t tokens, float* dst) {
  double max = -INFINITY, weight = 0;
  for (int64_t t = 0; t < tokens; ++t) max = std::fmax(max, scoreOf(args, q, t));
  double sum[1024] = {};
  for (int64_t t = 0; t < tokens; ++t) {
    const double p = std::exp(scoreOf(args, q, t) - max);
    const uint16_t* v = tokenAt(args, t, 1);
    weight += p;
    for (int64_t i = 0; i < args.pool.headDim; ++i) sum[i] += p * f16ToF32(v[i]);
  }
  for (int64_t i = 0; i < args.pool.headDim; ++i) dst[i] = static_cast<float>(sum[i] / weight);
}

}  // namespace

void attention(const AttentionArgs* args) {
  for (int64_t row = 0; row < args->rows; ++row) {
    for (int64_t head = args->headBegin; head < args->headEnd; ++head) {
      const int64_t at = (row * args->heads + head) * args->pool.headDim;
      attendQuery(*args, args->q + at, args->kvBefore + row + 1, args->dst + at);
    }
  }
}

}  // namespace quetzal::ref
