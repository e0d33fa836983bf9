// Two passes over the tokens of each query: the largest score, then the weighted
// mean of the values in double.
#include <cmath>

#include "../include/half.h"
#include "twins.h"

namespace quetzal::ref {

namespace {

/// 32 values as ggml's reference makes q8_0 of them; where it makes the scale zero, so are
/// the codes here. A fault becomes a scale that is not a number.
uint16_t quantize(const float* in, int8_t* codes) {
  float amax = 0;
  bool finite = true;
  for (int64_t i = 0; i < quantBlock; ++i) {
    amax = std::fmax(amax, std::fabs(in[i]));
    finite = finite && std::isfinite(in[i]);
  }
  const float scale = amax / 127.0f, inverse = amax < 1e-30f ? 0 : 1 / scale;
  for (int64_t i = 0; i < quantBlock; ++i) {
    codes[i] = static_cast<int8_t>(finite ? std::round(in[i] * inverse) : 0);
  }
  return f32ToF16(finite ? scale : NAN);
}

/// Code of dim `i` of token `slot`: keys lie dim by dim, values token by token.
int64_t codeAt(const KvPool& pool, int64_t isV, int64_t slot, int64_t i) {
  return isV ? slot * pool.headDim + i : i * pool.blockTokens + slot;
}

void writeQ8(const KvPool& pool, const float* in, int64_t isV, uint8_t* head, int64_t slot) {
  for (int64_t i = 0; i < pool.headDim; i += quantBlock) {
    int8_t codes[quantBlock];
    kvScalesOf(pool, head)[i / quantBlock * pool.blockTokens + slot] = quantize(in + i, codes);
    for (int64_t j = 0; j < quantBlock; ++j) {
      head[codeAt(pool, isV, slot, i + j)] = static_cast<uint8_t>(codes[j]);
    }
  }
}

void writeF16(const KvPool& pool, const float* in, uint8_t* head, int64_t slot) {
  auto* out = reinterpret_cast<uint16_t*>(head) + slot * pool.headDim;
  for (int64_t i = 0; i < pool.headDim; ++i) out[i] = f32ToF16(in[i]);
}

}  // namespace

void kvWrite(const KvWriteArgs* args, int64_t rowBegin, int64_t rowEnd) {
  const KvPool& pool = args->pool;
  for (int64_t row = rowBegin; row < rowEnd; ++row) {
    for (int64_t head = 0; head < pool.kvHeads; ++head) {
      for (int64_t isV = 0; isV < 2; ++isV) {
        const float* in = (isV ? args->v : args->k) + (row * pool.kvHeads + head) * pool.headDim;
        uint8_t* out = kvHeadOf(pool, args->block[row], args->layer, isV, head);
        if (pool.type == KvType::q8_0) writeQ8(pool, in, isV, out, args->slot[row]);
        else writeF16(pool, in, out, args->slot[row]);
      }
    }
  }
}

namespace {

/// Dim `i` of the key or value of a token.
float valueAt(const AttentionArgs& args, int64_t token, int64_t isV, int64_t i) {
  const KvPool& pool = args.pool;
  const int64_t slot = token % pool.blockTokens;
  uint8_t* head = kvHeadOf(pool, args.blockTable[token / pool.blockTokens], args.layer, isV,
                           args.kvHead);
  if (pool.type == KvType::f16) {
    return f16ToF32(reinterpret_cast<const uint16_t*>(head)[slot * pool.headDim + i]);
  }
  const auto code = static_cast<int8_t>(head[codeAt(pool, isV, slot, i)]);
  return code * f16ToF32(kvScalesOf(pool, head)[i / quantBlock * pool.blockTokens + slot]);
}

double scoreOf(const AttentionArgs& args, const float* q, int64_t token) {
  double dot = 0;
  for (int64_t i = 0; i < args.pool.headDim; ++i) dot += double{q[i]} * valueAt(args, token, 0, i);
  return dot * args.scale;
}

void attendQuery(const AttentionArgs& args, const float* q, int64_t tokens, float* dst) {
  double max = -INFINITY, weight = 0;
  for (int64_t t = 0; t < tokens; ++t) max = std::fmax(max, scoreOf(args, q, t));
  double sum[1024] = {};
  for (int64_t t = 0; t < tokens; ++t) {
    const double p = std::exp(scoreOf(args, q, t) - max);
    weight += p;
    for (int64_t i = 0; i < args.pool.headDim; ++i) sum[i] += p * valueAt(args, t, 1, i);
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
