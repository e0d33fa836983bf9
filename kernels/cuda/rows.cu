// What happens to a row of activations between products: norm, residual, rope, silu,
// lookups, and the forms that products read.
#include "prepare_row.h"
#include "weight_chunks.h"

namespace quetzal::cuda {

extern "C" __global__ void __launch_bounds__(wholeRowThreadsMax) norm_rows(const NormArgs args) {
  Shared shared;
  float* perWarp = shared.take<float>(wholeRowThreadsMax / 32);
  waitForKernelBefore();
  letNextKernelStart();
  const RowPart part = ownPart(args.cols);
  const int64_t at = static_cast<int64_t>(part.row) * args.cols;
  const float *a = args.a + at, *b = args.b ? args.b + at : nullptr;
  float *sum = args.sum + at, *dst = args.dst + at;
  withValues(part, [&](auto& values) {
    float squares = 0;
    values.eachHeld([&](float& value, int32_t i) { value = a[i]; });
    if (b) {
      values.eachHeld([&](float& value, int32_t i) { value += b[i]; });
      values.eachHeld([&](float& value, int32_t i) { sum[i] = value; });
    }
    values.eachHeld([&](float& value, int32_t) { squares += value * value; });
    values.eachBeyond([&](int32_t i) {
      float value = a[i];
      if (b) sum[i] = value += b[i];
      squares += value * value;
    });
    const float* row = b ? sum : a;
    if (args.weight) {
      const float total = blockSum(squares, perWarp);
      const float inverse = 1.0f / sqrtf(total / static_cast<float>(args.cols) + args.epsilon);
      values.eachHeld([&](float& value, int32_t i) { value = value * inverse * args.weight[i]; });
      values.eachHeld([&](float& value, int32_t i) { dst[i] = value; });
      values.eachBeyond([&](int32_t i) { dst[i] = row[i] * inverse * args.weight[i]; });
      row = dst;
    }
    prepareRow(values, row, part.row, args.cols, args.x, perWarp);
  });
}

/// A warp for each group.
extern "C" __global__ void __launch_bounds__(rowThreads) norm_groups(const GroupNormArgs args) {
  waitForKernelBefore();
  letNextKernelStart();
  const int32_t width = args.cols / args.groups, lane = threadIdx.x % 32;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * (rowThreads / 32) + threadIdx.x / 32;
  if (group >= static_cast<int64_t>(args.rows) * args.groups) return;
  const float* in = args.a + group * width;
  float squares = 0;
  for (int i = lane; i < width; i += 32) squares += in[i] * in[i];
  const float inverse = 1.0f / sqrtf(warpSum(squares) / static_cast<float>(width) + args.epsilon);
  for (int i = lane; i < width; i += 32) {
    args.dst[group * width + i] = in[i] * inverse * args.weight[i];
  }
}

static __device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

/// dst = silu(a) * b, and its prepared forms. With b null: prepared forms of a.
extern "C" __global__ void __launch_bounds__(wholeRowThreadsMax) silu_mul(const ElementwiseArgs args) {
  Shared shared;
  float* perWarp = shared.take<float>(wholeRowThreadsMax / 32);
  waitForKernelBefore();
  letNextKernelStart();
  const RowPart part = ownPart(args.cols);
  const int64_t at = static_cast<int64_t>(part.row) * args.cols;
  const float *a = args.a + at, *b = args.b + at;
  float* dst = args.dst + at;
  withValues(part, [&](auto& values) {
    values.eachHeld([&](float& value, int32_t i) { value = a[i]; });
    if (args.b) {
      values.eachHeld([&](float& value, int32_t i) { value = silu(value) * b[i]; });
      values.eachHeld([&](float& value, int32_t i) { dst[i] = value; });
      values.eachBeyond([&](int32_t i) { dst[i] = silu(a[i]) * b[i]; });
    }
    prepareRow(values, args.b ? dst : a, part.row, args.cols, args.x, perWarp);
  });
}

extern "C" __global__ void __launch_bounds__(rowThreads) add_rows(const ElementwiseArgs args) {
  waitForKernelBefore();
  letNextKernelStart();
  const int64_t at = static_cast<int64_t>(blockIdx.x) * args.cols;
  for (int i = threadIdx.x; i < args.cols; i += rowThreads) {
    args.dst[at + i] = args.a[at + i] + args.b[at + i];
  }
}

extern "C" __global__ void __launch_bounds__(rowThreads) gather_rows(const GatherArgs args) {
  waitForKernelBefore();
  letNextKernelStart();
  const int32_t from = args.index[blockIdx.x];
  const int64_t at = static_cast<int64_t>(blockIdx.x) * args.cols;
  for (int i = threadIdx.x; i < args.cols; i += rowThreads) {
    // Padding is zero, so that nothing odd grows in it.
    args.dst[at + i] = from < 0 ? 0.0f : args.a[static_cast<int64_t>(from) * args.cols + i];
  }
}

template <int32_t type>
static __device__ __forceinline__ void embedQuantized(const EmbedArgs& args, int32_t id, float* dst) {
  using Chunks = WeightChunks<type>;
  const MatrixRow row = Chunks::row(args.table, id);
  for (int index = threadIdx.x; index < args.table.cols / 32; index += rowThreads) {
    const Chunk chunk = Chunks::decode(Chunks::load(row, index), index);
    for (int i = 0; i < 32; ++i) {
      const uint32_t byte = chunk.q[i / 4] >> (8 * (i % 4)) & 0xff;
      const float quant = Chunks::isSigned ? static_cast<float>(static_cast<int8_t>(byte))
                                           : static_cast<float>(byte);
      dst[Chunks::at(index, i / 16) + i % 16] =
          quant * chunk.scale[i / 16] - chunk.minimum[i / 16];
    }
  }
}

extern "C" __global__ void __launch_bounds__(rowThreads) embed_rows(const EmbedArgs args) {
  waitForKernelBefore();
  letNextKernelStart();
  int32_t id = args.ids[blockIdx.x];
  if (id < 0) id = args.chosen[-1 - id];
  if (id < 0) id = 0;
  float* dst = args.dst + static_cast<int64_t>(blockIdx.x) * args.table.cols;
  switch (args.table.type) {
    case typeQ4_0: embedQuantized<typeQ4_0>(args, id, dst); break;
    case typeQ8_0: embedQuantized<typeQ8_0>(args, id, dst); break;
    case typeQ4_K: embedQuantized<typeQ4_K>(args, id, dst); break;
    case typeQ5_K: embedQuantized<typeQ5_K>(args, id, dst); break;
    case typeQ6_K: embedQuantized<typeQ6_K>(args, id, dst); break;
    default:
      for (int i = threadIdx.x; i < args.table.cols; i += rowThreads) {
        dst[i] = plainAt(args.table, static_cast<int64_t>(id) * args.table.cols + i);
      }
  }
}

/// Angles in double, as on the CPU: positions go into the millions.
extern "C" __global__ void __launch_bounds__(rowThreads) rope_table(const RopeTableArgs args) {
  waitForKernelBefore();
  letNextKernelStart();
  const int32_t row = blockIdx.x;
  for (int i = threadIdx.x; i < args.half; i += rowThreads) {
    const double angle = args.positions[row] * args.frequencies[i];
    args.cosines[static_cast<int64_t>(row) * args.half + i] = static_cast<float>(cos(angle));
    args.sines[static_cast<int64_t>(row) * args.half + i] = static_cast<float>(sin(angle));
  }
}

static __device__ __forceinline__ void turnHead(const RopeKvArgs& args, float* head, int64_t row) {
  const int half = args.rotated / 2;
  const float *cosines = args.cosines + row * half, *sines = args.sines + row * half;
  for (int pair = threadIdx.x; pair < half; pair += ropeThreads) {
    float* first = head + (args.neox ? pair : 2 * pair);
    float* second = first + (args.neox ? half : 1);
    const float a = *first, b = *second;
    *first = a * cosines[pair] - b * sines[pair];
    *second = a * sines[pair] + b * cosines[pair];
  }
}

/// A block for each head of q, then of k with v.
extern "C" __global__ void __launch_bounds__(ropeThreads) rope_kv(const RopeKvArgs args) {
  waitForKernelBefore();
  letNextKernelStart();
  const int64_t row = blockIdx.y;
  const DeviceKv& kv = args.kv;
  const int32_t qHeads = args.q ? args.heads : 0;
  const auto index = static_cast<int32_t>(blockIdx.x);
  if (index < qHeads) {
    float* head = args.q + (row * args.heads + index) * kv.headDim;
    if (args.cosines) turnHead(args, head, row);
    return;
  }
  const int32_t kvHead = index - qHeads;
  float* k = args.k + (row * args.kHeads + kvHead) * kv.headDim;
  if (args.cosines) turnHead(args, k, row);
  if (!args.writesKv || args.block[row] < 0) return;
  __syncthreads();
  const float* v = args.v + (row * kv.kvHeads + kvHead) * kv.headDim;
  const int64_t headHalves = static_cast<int64_t>(kv.blockTokens) * kv.headDim;
  uint16_t* to = kv.pool + args.block[row] * kv.blockHalves + args.layer * kv.layerHalves +
      kvHead * headHalves + static_cast<int64_t>(args.slot[row]) * kv.headDim;
  for (int i = threadIdx.x; i < kv.headDim; i += ropeThreads) {
    to[i] = floatToHalf(k[i]);
    to[kv.kvHeads * headHalves + i] = floatToHalf(v[i]);
  }
}

}  // namespace quetzal::cuda
