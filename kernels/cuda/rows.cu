// What happens to a row of activations between products: norm, residual, rope, silu,
// lookups, and the forms that products read.
#include "prepare_row.h"
#include "weight_chunks.h"

namespace quetzal::cuda {

extern "C" __global__ void __launch_bounds__(rowThreads) norm_rows(const NormArgs args) {
  Shared shared;
  float* perWarp = shared.take<float>(rowThreads / 32);
  waitForKernelBefore();
  letNextKernelStart();
  const auto row = static_cast<int32_t>(blockIdx.x);
  const int64_t at = static_cast<int64_t>(row) * args.cols;
  const float* source = args.b ? args.sum + at : args.a + at;
  float squares = 0;
  for (int i = threadIdx.x; i < args.cols; i += rowThreads) {
    float value = args.a[at + i];
    if (args.b) {
      value += args.b[at + i];
      args.sum[at + i] = value;
    }
    squares += value * value;
  }
  if (args.weight) {
    const float total = blockSum(squares, perWarp);
    const float inverse = 1.0f / sqrtf(total / static_cast<float>(args.cols) + args.epsilon);
    for (int i = threadIdx.x; i < args.cols; i += rowThreads) {
      args.dst[at + i] = source[i] * inverse * args.weight[i];
    }
    source = args.dst + at;
  }
  __syncthreads();
  prepareRow(source, row, args.cols, args.x, perWarp);
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

/// dst = silu(a) * b, and its prepared forms. With b null: prepared forms of a.
extern "C" __global__ void __launch_bounds__(rowThreads) silu_mul(const ElementwiseArgs args) {
  Shared shared;
  float* perWarp = shared.take<float>(rowThreads / 32);
  waitForKernelBefore();
  letNextKernelStart();
  const auto row = static_cast<int32_t>(blockIdx.x);
  const int64_t at = static_cast<int64_t>(row) * args.cols;
  if (args.b) {
    for (int i = threadIdx.x; i < args.cols; i += rowThreads) {
      const float gate = args.a[at + i];
      args.dst[at + i] = gate / (1.0f + expf(-gate)) * args.b[at + i];
    }
    __syncthreads();
  }
  prepareRow(args.b ? args.dst + at : args.a + at, row, args.cols, args.x, perWarp);
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

static __device__ __forceinline__ void turnHeads(const RopeKvArgs& args, float* x, int heads,
                                                 int64_t row) {
  const int half = args.rotated / 2;
  const float *cosines = args.cosines + row * half, *sines = args.sines + row * half;
  for (int i = threadIdx.x; i < heads * half; i += rowThreads) {
    const int pair = i % half;
    float* head = x + static_cast<int64_t>(i / half) * args.kv.headDim;
    float* first = head + (args.neox ? pair : 2 * pair);
    float* second = first + (args.neox ? half : 1);
    const float a = *first, b = *second;
    *first = a * cosines[pair] - b * sines[pair];
    *second = a * sines[pair] + b * cosines[pair];
  }
}

extern "C" __global__ void __launch_bounds__(rowThreads) rope_kv(const RopeKvArgs args) {
  waitForKernelBefore();
  letNextKernelStart();
  const int64_t row = blockIdx.x;
  const DeviceKv& kv = args.kv;
  float* k = args.k ? args.k + row * args.kHeads * kv.headDim : nullptr;
  if (args.cosines) {
    if (args.q) turnHeads(args, args.q + row * args.heads * kv.headDim, args.heads, row);
    if (k) turnHeads(args, k, args.kHeads, row);
  }
  if (!args.writesKv || args.block[row] < 0) return;
  __syncthreads();
  const float* v = args.v + row * kv.kvHeads * kv.headDim;
  const int64_t headHalves = static_cast<int64_t>(kv.blockTokens) * kv.headDim;
  uint16_t* block = kv.pool + args.block[row] * kv.blockHalves + args.layer * kv.layerHalves +
      static_cast<int64_t>(args.slot[row]) * kv.headDim;
  for (int i = threadIdx.x; i < kv.kvHeads * kv.headDim; i += rowThreads) {
    const int64_t to = i / kv.headDim * headHalves + i % kv.headDim;
    block[to] = floatToHalf(k[i]);
    block[kv.kvHeads * headHalves + to] = floatToHalf(v[i]);
  }
}

}  // namespace quetzal::cuda
