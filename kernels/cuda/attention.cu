// Attention over paged KV, a row at a time: flash-decoding.
//
// A block takes up to four query heads that share a KV head, over one split of the row's
// tokens, and keeps the running maximum and sum of an online softmax. Lanes of a group
// hold eight dims of a token each; the groups of the block work on different tokens and
// are merged at the end. Splits are merged by attention_finish. Rows of a prompt are rows
// like others: each sees its own length.
#include "device.h"
#include "prepare_row.h"

namespace quetzal::cuda {

/// Tokens that a group loads ahead.
constexpr int tokensAhead = 4;

static __device__ __forceinline__ void widen(const Words4& halves, float (&out)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    out[i] = halfToFloat(static_cast<uint16_t>(halves.word[i / 2] >> (16 * (i % 2))));
  }
}

template <int queries>
static __device__ __forceinline__ void attend(const AttentionArgs& args) {
  const DeviceKv& kv = args.kv;
  const int headDim = kv.headDim, perKv = args.heads / kv.kvHeads;
  const int headChunks = (perKv + queries - 1) / queries;
  const int kvHead = blockIdx.x / headChunks, chunk = blockIdx.x % headChunks;
  const int firstHead = kvHead * perKv + chunk * queries;
  const int held = perKv - chunk * queries < queries ? perKv - chunk * queries : queries;
  const int64_t row = blockIdx.y;
  int lanesPerToken = 1;
  while (lanesPerToken * 8 < headDim) lanesPerToken *= 2;
  const int perWarp = 32 / lanesPerToken, groups = attentionThreads / lanesPerToken;
  const int lane = threadIdx.x % 32, dim = lane % lanesPerToken * 8;
  const int group = threadIdx.x / lanesPerToken;
  const bool hasDims = dim < headDim;

  Shared shared;
  float* sums = shared.take<float>(groups * queries * headDim);
  float* states = shared.take<float>(groups * queries * 2);
  waitForKernelBefore();
  letNextKernelStart();

  const int length = args.lengths[row], perSplit = splitTokensOf(length);
  const int begin = static_cast<int>(blockIdx.z) * perSplit;
  const int end = begin + perSplit < length ? begin + perSplit : length;
  if (begin >= end) return;
  const int32_t* table = args.tables + args.tableBegin[row];
  const int64_t headHalves = static_cast<int64_t>(kv.blockTokens) * headDim;
  const uint16_t* pool = kv.pool + args.layer * kv.layerHalves + kvHead * headHalves;

  float q[queries][8], sum[queries][8], most[queries], weight[queries];
#pragma unroll
  for (int i = 0; i < queries; ++i) {
    most[i] = -INFINITY;
    weight[i] = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      sum[i][j] = 0;
      q[i][j] = i < held && hasDims
          ? args.q[(row * args.heads + firstHead + i) * headDim + dim + j] * args.scale
          : 0.0f;
    }
  }

  const int stride = attentionThreads / 32 * perWarp;
  for (int base = begin; base < end; base += stride * tokensAhead) {
    Words4 keys[tokensAhead], values[tokensAhead];
#pragma unroll
    for (int u = 0; u < tokensAhead; ++u) {
      const int token = base + u * stride + group;
      keys[u] = values[u] = Words4{};
      if (token < end && hasDims) {
        const uint16_t* at = pool + table[token / kv.blockTokens] * kv.blockHalves +
            token % kv.blockTokens * headDim + dim;
        keys[u] = load16(at);
        values[u] = load16(at + kv.kvHeads * headHalves);
      }
    }
    float score[tokensAhead][queries];
#pragma unroll
    for (int u = 0; u < tokensAhead; ++u) {
      float key[8];
      widen(keys[u], key);
#pragma unroll
      for (int i = 0; i < queries; ++i) {
        float dot = 0;
#pragma unroll
        for (int j = 0; j < 8; ++j) dot += q[i][j] * key[j];
        for (int offset = lanesPerToken / 2; offset > 0; offset >>= 1) {
          dot += __shfl_xor_sync(allLanes, dot, offset);
        }
        score[u][i] = base + u * stride + group < end ? dot : -INFINITY;
      }
    }
#pragma unroll
    for (int i = 0; i < queries; ++i) {
      float best = most[i];
#pragma unroll
      for (int u = 0; u < tokensAhead; ++u) best = score[u][i] > best ? score[u][i] : best;
      if (best == -INFINITY) {
#pragma unroll
        for (int u = 0; u < tokensAhead; ++u) score[u][i] = 0;
        continue;  // this group has met no token yet
      }
      const float fade = expf(most[i] - best);
      most[i] = best;
      weight[i] *= fade;
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] *= fade;
#pragma unroll
      for (int u = 0; u < tokensAhead; ++u) {
        score[u][i] = expf(score[u][i] - best);
        weight[i] += score[u][i];
      }
    }
#pragma unroll
    for (int u = 0; u < tokensAhead; ++u) {
      float value[8];
      widen(values[u], value);
#pragma unroll
      for (int i = 0; i < queries; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[i][j] += score[u][i] * value[j];
      }
    }
  }

#pragma unroll
  for (int i = 0; i < queries; ++i) {
    const int at = group * queries + i;
    if (lane % lanesPerToken == 0) {
      states[2 * at] = most[i];
      states[2 * at + 1] = weight[i];
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (hasDims) sums[at * headDim + dim + j] = sum[i][j];
    }
  }
  __syncthreads();

  for (int out = threadIdx.x; out < held * headDim; out += attentionThreads) {
    const int i = out / headDim, d = out % headDim;
    float best = -INFINITY, total = 0, mixed = 0;
    for (int from = 0; from < groups; ++from) {
      const float found = states[2 * (from * queries + i)];
      best = found > best ? found : best;
    }
    for (int from = 0; from < groups; ++from) {
      const int at = from * queries + i;
      const float share = expf(states[2 * at] - best);
      total += share * states[2 * at + 1];
      mixed += share * sums[at * headDim + d];
    }
    const int64_t query = row * args.heads + firstHead + i;
    if (args.splits == 1) {
      args.dst[query * headDim + d] = mixed / total;
      continue;
    }
    const int64_t part = query * args.splits + blockIdx.z;
    args.partial[part * headDim + d] = mixed;
    if (d == 0) {
      args.partialState[2 * part] = best;
      args.partialState[2 * part + 1] = total;
    }
  }
}

extern "C" __global__ void __launch_bounds__(attentionThreads) attention_1(const AttentionArgs args) {
  attend<1>(args);
}
extern "C" __global__ void __launch_bounds__(attentionThreads) attention_2(const AttentionArgs args) {
  attend<2>(args);
}
extern "C" __global__ void __launch_bounds__(attentionThreads) attention_4(const AttentionArgs args) {
  attend<4>(args);
}

/// One value of a row whose splits were attended apart.
static __device__ __forceinline__ float mergedAt(const AttentionArgs& args, int64_t row,
                                                 int32_t column, int32_t splits) {
  const int32_t headDim = args.kv.headDim;
  const int64_t first = (row * args.heads + column / headDim) * args.splits;
  const float* states = args.partialState + 2 * first;
  const float* parts = args.partial + first * headDim + column % headDim;
  float best = -INFINITY, total = 0, mixed = 0;
  for (int32_t part = 0; part < splits; ++part) {
    best = states[2 * part] > best ? states[2 * part] : best;
  }
  for (int32_t part = 0; part < splits; ++part) {
    const float share = expf(states[2 * part] - best);
    total += share * states[2 * part + 1];
    mixed += share * parts[static_cast<int64_t>(part) * headDim];
  }
  return mixed / total;
}

/// Merges a row's splits and makes the forms that the product behind it reads.
extern "C" __global__ void __launch_bounds__(wholeRowThreadsMax)
    attention_finish(const AttentionArgs args) {
  Shared shared;
  float* perWarp = shared.take<float>(wholeRowThreadsMax / 32);
  waitForKernelBefore();
  letNextKernelStart();
  const int32_t cols = args.heads * args.kv.headDim;
  const RowPart part = ownPart(cols);
  const int32_t length = args.lengths[part.row], perSplit = splitTokensOf(length);
  const int32_t splits = (length + perSplit - 1) / perSplit;
  float* dst = args.dst + static_cast<int64_t>(part.row) * cols;
  if (args.splits > 1 || length == 0) {
    const auto threads = static_cast<int32_t>(blockDim.x);
    for (int32_t i = part.begin + static_cast<int32_t>(threadIdx.x); i < part.end; i += threads) {
      dst[i] = length == 0 ? 0.0f /* padding */ : mergedAt(args, part.row, i, splits);
    }
  }
  withValues(part, [&](auto& values) {
    // Each thread reads what it has just written.
    values.eachHeld([&](float& value, int32_t i) { value = dst[i]; });
    prepareRow(values, dst, part.row, cols, args.x, perWarp);
  });
}

}  // namespace quetzal::cuda
