// Kernels that only measure: what the device's memory and tensor cores can do, and random
// weights to read.
#include "../include/philox.h"
#include "device.h"

namespace quetzal::cuda {


extern "C" __global__ void __launch_bounds__(256) copy_bytes(const CopyArgs args) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * 256 * 16;
  for (int64_t at = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * 16; at < args.bytes;
       at += stride) {
    *reinterpret_cast<Words4*>(args.dst + at) = loadOnce(args.src + at);
  }
}

extern "C" __global__ void __launch_bounds__(256) tensor_peak(const PeakArgs args) {
  const uint32_t a[4] = {0x3c003c00u, 0x3c003c00u, threadIdx.x, 0x3c003c00u};
  const uint32_t b[2] = {0x3c003c00u, threadIdx.x};
  float sum[peakTilesPerRound][4] = {};
  for (int32_t round = 0; round < args.rounds; ++round) {
#pragma unroll
    for (int i = 0; i < peakTilesPerRound; ++i) multiplyTile(sum[i], a, b);
  }
  float total = 0;
#pragma unroll
  for (int i = 0; i < peakTilesPerRound; ++i) total += sum[i][0] + sum[i][1] + sum[i][2] + sum[i][3];
  args.dst[blockIdx.x * 256 + threadIdx.x] = total;
}

extern "C" __global__ void __launch_bounds__(256) fill_random(const FillArgs args) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * 256;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x; i < args.words;
       i += stride) {
    const PhiloxWords words = philox4x32(
        {{static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), 0, 0}}, args.seed, 0);
    reinterpret_cast<uint32_t*>(args.dst)[i * args.stride] = (words.word[0] & args.andMask) | args.orMask;
  }
}

}  // namespace quetzal::cuda
